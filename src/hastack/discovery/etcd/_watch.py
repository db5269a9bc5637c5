"""Watches over one stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from hastack._core._portal import PORTAL

if TYPE_CHECKING:
    from hastack.discovery._store import Watch

    from ._client import Client


@final
class WatchHub:
    """All watches of one client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._portal = PORTAL

    def watch(
        self, key: bytes, end: bytes, start_revision: int | None, prev: bool, buffer: int
    ) -> Watch:
        raise NotImplementedError

    async def aclose(self) -> None:
        """End all watches."""
