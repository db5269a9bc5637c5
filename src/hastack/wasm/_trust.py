"""Who must have signed a module."""

from __future__ import annotations

from typing import final

__all__ = ("Unsigned",)


@final
class Unsigned:
    """In place of a trust policy: load what nobody signed.

    For tests, and for code that is trusted for other reasons.
    """

    def __repr__(self) -> str:
        return "Unsigned()"
