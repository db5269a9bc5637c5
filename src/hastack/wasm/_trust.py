"""Who must have signed a module."""

from __future__ import annotations

from typing import Final, final

__all__ = ("UNSIGNED", "Unsigned")


@final
class Unsigned:
    """The wish to run code that nobody signed; `UNSIGNED` is the one there is."""

    def __repr__(self) -> str:
        return "UNSIGNED"


UNSIGNED: Final = Unsigned()
"""Load what nobody signed: for tests, and for code that is trusted for other reasons."""
