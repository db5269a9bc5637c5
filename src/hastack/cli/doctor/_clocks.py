"""Clocks: what deadlines and timestamps are read from, and how far backends' clocks are from this one."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import time
from contextlib import suppress
from pathlib import Path
from struct import unpack_from
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from hastack.cli._discovery_clock import MAX_SKEW, skew
from hastack.errors import InvalidArgument

from ._finding import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hastack.config import Config
    from hastack.discovery.etcd import TLS

    from ._looking import Looking

__all__ = ("clocks", "smallest_step")

_SOURCE: Final = Path("/sys/devices/system/clocksource/clocksource0")
# Reading these leaves the processor: a call costs microseconds instead of tens of nanoseconds.
_SLOW_SOURCES: Final = frozenset(("acpi_pm", "hpet", "jiffies", "refined-jiffies", "xen"))
_UNSYNCHRONISED: Final = 0x40  # STA_UNSYNC
_USELESS: Final = 10.0  # seconds; spans and log lines of the two cannot be put in order
_COARSE: Final = 1e-3  # seconds; a bucket that refills 1,000 times per second sees steps


def clocks(looking: Looking) -> Iterator[Finding]:
    """The clocks of this machine, then those of backends that tell theirs."""
    for name, kind, read in (
        ("monotonic", "monotonic", time.monotonic),
        ("wall", "time", time.time),
    ):
        if looking.wants("clocks", name):
            yield _clock(name, kind, read)
    if looking.wants("clocks", "source"):
        yield from _source()
    if looking.wants("clocks", "synchronised"):
        yield from _synchronised()
    settings = looking.settings
    if settings is not None:
        yield from _others(settings, looking)


def _clock(name: str, kind: Any, read: Callable[[], float]) -> Finding:
    info = time.get_clock_info(kind)
    step = smallest_step(read)
    coarse = max(info.resolution, step) >= _COARSE
    return Finding(
        section="clocks",
        name=name,
        says=f"{info.implementation}, steps of {_short(step)}",
        notes=(f"steps of {_short(step)} are coarse for limits and deadlines",) if coarse else (),
        facts={
            "implementation": info.implementation,
            "resolution": info.resolution,
            "smallest_step": step,
            "adjustable": info.adjustable,
        },
    )


def _short(seconds: float) -> str:
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 1e-9:.3g} ns"


def smallest_step(read: Callable[[], float], samples: int = 200) -> float:
    """Seconds between two readings that differ, at best."""
    best = float("inf")
    for _ in range(samples):
        before = after = read()
        limit = 10_000  # a clock that stands still must not hold the doctor
        while after == before and limit:
            after = read()
            limit -= 1
        if after > before:
            best = min(best, after - before)
    return best if best < float("inf") else 0.0


def _source() -> Iterator[Finding]:
    try:
        current = (_SOURCE / "current_clocksource").read_text("ascii").strip()
        others = (_SOURCE / "available_clocksource").read_text("ascii").split()
    except OSError:
        return  # not Linux, or hidden in a container
    faster = [each for each in others if each not in _SLOW_SOURCES]
    slow = current in _SLOW_SOURCES
    fix = f"echo {faster[0]} | sudo tee {_SOURCE}/current_clocksource" if slow and faster else None
    yield Finding(
        section="clocks",
        name="source",
        says=f"{current}, of {', '.join(others)}",
        fix=fix,
        notes=(f"{current} is slow to read: each guarded call reads a clock",) if slow else (),
        facts={"current": current, "available": others},
    )


def _synchronised() -> Iterator[Finding]:
    """Whether anything sets this clock, from ``adjtimex(2)``, asked without changing anything."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return
    answer = ctypes.create_string_buffer(256)  # struct timex, with room
    if ctypes.CDLL(None).adjtimex(answer) < 0:
        return  # forbidden in some containers
    (error,) = unpack_from("@l", answer, 24)
    (state,) = unpack_from("@i", answer, 40)
    if state & _UNSYNCHRONISED:
        yield Finding(
            section="clocks",
            name="synchronised",
            status="missing",
            says="nothing keeps this clock to the time of others (NTP, PTP)",
            fix="sudo timedatectl set-ntp true",
        )
        return
    says = f"kept to the time of others, {_short(error / 1e6)} off at most"
    yield Finding(
        section="clocks", name="synchronised", says=says, facts={"max_error": error / 1e6}
    )


def _others(settings: Config, looking: Looking) -> Iterator[Finding]:
    asked = {a: tls for a, tls in _addresses(settings).items() if looking.wants("clocks", a)}

    async def ask() -> list[dict[str, Any] | None]:
        return await asyncio.gather(*(skew(a, tls, looking.timeout) for a, tls in asked.items()))

    for address, found in zip(asked, asyncio.run(ask()) if asked else (), strict=True):
        if found is not None:  # what does not answer is said under backends
            yield _skew(address, found)


def _skew(address: str, found: dict[str, float]) -> Finding:
    ahead, within = found["ahead"], found["within"]
    off = abs(ahead) - within
    way = "ahead of" if ahead > 0.0 else "behind"
    notes = ("above 0.5 s, the newer of two registrations is not told for sure",)
    return Finding(
        section="clocks",
        name=address,
        status="broken" if off > _USELESS else "ok",
        says=f"{abs(ahead):.2f} s {way} this one, give or take {within:.2f}",
        fix="sudo timedatectl set-ntp true" if off > MAX_SKEW else None,
        notes=notes if off > MAX_SKEW else (),
        facts=found,
    )


def _addresses(settings: Config) -> dict[str, TLS | None]:
    """Host and port of what may say its time, and its certificates where it is asked over TLS."""
    from hastack.discovery.etcd import TLS
    from hastack.discovery.etcd._options import parse_url
    from hastack.observe._options import OBSERVE

    found: dict[str, TLS | None] = {}
    with suppress(InvalidArgument):  # memory://, or a mistake that is said under backends
        store = parse_url(settings.discovery.url.reveal())
        found.update(dict.fromkeys(store.endpoints, store.tls))
    for backend in OBSERVE.of(settings).backends.values():
        # A mistake, or no file of certificates: said under backends as well.
        with suppress(ValueError, OSError):
            parts = urlsplit(backend.endpoint)
            if backend.kind == "otlp-grpc" or not parts.hostname:
                continue
            encrypted = parts.scheme == "https"
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            ca = Path(backend.ca_file).read_bytes() if backend.ca_file else None
            address = f"{host}:{parts.port or (443 if encrypted else 80)}"
            found[address] = TLS(ca=ca) if encrypted else None
    return found
