"""A version of a plugin between being ready and being in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from ._swap import Swap, _Version


@final
class Offer:
    """A version that is ready and waits for a word; see `Swap.prepare`."""

    def __init__(self, swap: Swap, version: _Version, trust: Any, options: dict[str, Any]) -> None:
        self._swap = swap
        self._version = version
        self._trust = trust
        self._options = options

    def commit(self) -> None:
        """From the next call on it answers."""
        self._swap._take_over(self._version, self._trust, self._options)

    def abort(self) -> None:
        """It is not to be."""
        self._version.plugin.close()
