"""How far the clock of an etcd member, or of another server of HTTP, is from this machine's."""

from __future__ import annotations

import asyncio
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hastack.discovery.etcd import TLS

__all__ = ("MAX_SKEW", "Skew", "skew")

MAX_SKEW: Final = 0.5  # seconds; what a registry believes of others' clocks (`_hlc.MAX_AHEAD`)
_EVERY: Final = 0.1
_FOR: Final = 1.2  # seconds; a little more than one tick


class Skew:
    """What is known of a clock from answers that are dated in whole seconds.

    An answer dated ``D`` was given when that clock showed ``D`` to ``D + 1``, at some time between
    the request and its arrival here. One alone says little; those around a tick leave a few
    hundredths of a second.
    """

    def __init__(self) -> None:
        self._least, self._most = float("-inf"), float("inf")

    def add(self, date: float, sent: float, received: float) -> None:
        """Take in an answer; all three by the respective wall clock."""
        self._least = max(self._least, date - received)
        self._most = min(self._most, date + 1.0 - sent)

    @property
    def ahead(self) -> float:
        """Seconds by which that clock is ahead, at best guess; negative when it is behind."""
        return (self._least + self._most) / 2.0

    @property
    def within(self) -> float:
        """How far off the guess may be, in seconds; below zero when a clock was set meanwhile."""
        return (self._most - self._least) / 2.0


async def skew(address: str, tls: TLS | None, timeout: float) -> dict[str, Any] | None:
    """What answers to HTTP requests say of a server's clock; ``None`` when nothing."""
    try:
        async with asyncio.timeout(timeout):
            return await _skew(address, tls, min(_FOR, 0.8 * timeout))
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None  # it asks for a certificate, say, or something in between speaks gRPC only


async def _skew(address: str, tls: TLS | None, seconds: float) -> dict[str, Any] | None:
    host, _, port = address.rpartition(":")
    options: dict[str, Any] = {}
    if tls is not None:
        cadata = None if tls.ca is None else tls.ca.decode()
        options["ssl"] = ssl.create_default_context(cadata=cadata)
        options["server_hostname"] = tls.server_name or host.strip("[]")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), **options)
    found = Skew()
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sent = time.time()
            writer.write(f"GET /version HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            received = time.time()
            fields = dict(each.lower().split(": ", 1) for each in head.split("\r\n")[1:-2])
            await reader.readexactly(int(fields["content-length"]))
            found.add(parsedate_to_datetime(fields["date"]).timestamp(), sent, received)
            await asyncio.sleep(_EVERY)
    except KeyError:
        return None
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # some close after each answer, and one says something already
    finally:
        writer.close()
    known = 0.0 <= found.within < float("inf")
    return {"ahead": found.ahead, "within": found.within} if known else None
