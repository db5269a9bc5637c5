"""Leases over one stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from hastack._core._portal import PORTAL

if TYPE_CHECKING:
    from hastack.discovery._records import Key
    from hastack.discovery._store import Kept, Lease

    from ._client import Client


@final
class LeaseKeeper:
    """All leases of one client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._portal = PORTAL

    def lease(self, ttl: float) -> Lease:
        raise NotImplementedError

    def keep(self, key: Key, value: Key, ttl: float) -> Kept:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Let all leases go."""
