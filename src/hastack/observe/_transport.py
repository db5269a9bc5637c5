"""What the pipeline asks of a transport: one request at a time, an answer or a typed failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ._answers import Answer


class Transport(Protocol):
    """A connection to one backend for one signal; used by one thread of each lane.

    Nothing is raised for what a network or a server can do: that is an answer, too.
    """

    def send(self, lane: int, body: bytes, timeout: float) -> Answer:
        """Make one request; return within ``timeout`` seconds, whatever the server does."""
        ...

    def abort(self) -> None:
        """End all requests under way, from another thread, and refuse further ones."""
        ...

    def close(self, lane: int) -> None:
        """Let go of what a lane holds; called by its thread, which ends."""
        ...

    def forget(self) -> None:
        """In a forked child: leave the parent's connections alone, and start anew."""
        ...
