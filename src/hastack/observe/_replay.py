"""What processes left on disk, looked at and sent from outside."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, final

import attrs

from ._compress import compress, decompress
from ._retry_rules import Kind, RetryRules, judge
from ._spill import SpillFiles, load, lock_directory, mark_settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ._spill import Place, Segment
    from ._transport import Transport

LONGEST_PAUSE = 60.0
"""Seconds; a backend that asks for more is not waited for."""


@final
@attrs.frozen
class Left:
    """The directory of one process.

    Attributes:
        path: Where it is.
        live: Whether its process still runs, or another one took it over.
        segments: Its segments with what they say about their bodies, and their records.
        torn: Bytes at the ends of segments that make no record.
        damaged: Records whose checksum is wrong.
    """

    path: Path
    live: bool
    segments: tuple[tuple[Segment, Mapping[str, Any], tuple[Place, ...]], ...]
    torn: int
    damaged: int

    @property
    def units(self) -> int:
        """Units that have not been sent."""
        return sum(segment.units for segment, _, _ in self.segments)


def directories(path: Path) -> list[Path]:
    """The process directories in a spill, in that of one exporter, or ``path`` itself."""
    if any(path.glob("*.seg")):
        return [path]
    return sorted({found.parent for found in path.rglob("*.seg")})


def look(path: Path) -> Left:
    """What is in the directory of one process; nothing is changed.

    Raises:
        OSError: It cannot be read.
    """
    counters = SpillFiles(path, "", shards=1, about={}, max_bytes=1)
    segments = tuple(
        (segment, header.about, tuple(places)) for segment, header, places in load(path, counters)
    )
    fd = lock_directory(path)
    if fd is not None:
        os.close(fd)
    return Left(path, fd is None, segments, counters.torn_bytes, counters.damaged_records)


@final
@attrs.define
class Outcome:
    """What became of the units of a replay."""

    sent: int = 0
    rejected: int = 0
    refused: dict[str, int] = attrs.field(factory=dict)
    left: int = 0
    note: str = ""


def replay(
    path: Path,
    target: Callable[[Mapping[str, Any]], tuple[Transport, str] | None],
    *,
    tries: int = 5,
    timeout: float = 10.0,
    pause: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Send what is in the directory of a process that ended, oldest first within each lane.

    What was sent is settled in its file at once, so a replay that is interrupted goes on where it
    was. What the backend refuses for good is settled, too, and counted; the first record that it
    does not take now ends the replay of its lane.

    Args:
        path: The directory of one process.
        target: Transport and compression for bodies, by what their segment says about them;
            ``None`` leaves a segment alone.
        tries: Requests for one record.
        timeout: Seconds for one request.
        pause: Waits between two of them.

    Raises:
        OSError: The directory cannot be used, or its process still runs.
    """
    fd = lock_directory(path)
    if fd is None:
        raise BlockingIOError(f"{path} is in use by a running process")
    try:
        return _replay(path, target, tries, timeout, pause)
    finally:
        os.close(fd)


def _replay(
    path: Path, target: Any, tries: int, timeout: float, pause: Callable[[float], None]
) -> Outcome:
    outcome = Outcome()
    files = SpillFiles(path, "", shards=1, about={}, max_bytes=1)
    stuck: set[int] = set()
    for segment, header, places in load(path):
        found = target(header.about)
        for place in places:
            if found is None or segment.name.lane in stuck:
                outcome.left += place.units
                continue
            body = files.read(place)
            if body is None:
                outcome.left += place.units
                continue
            body = _recoded(body, str(header.about.get("encoding")), found[1])
            rules = RetryRules(header.about.get("protocol"))
            done = False
            for wait in _send(found[0], rules, body, place.units, tries, timeout, outcome):
                if wait is None:
                    done = True
                else:
                    pause(wait)
            if done:
                mark_settled(segment.path, place.at)
                segment.kept -= 1
            else:
                stuck.add(segment.name.lane)
                outcome.left += place.units
        if segment.kept <= 0:
            segment.path.unlink(missing_ok=True)
    if not any(path.glob("*.seg")):
        (path / "lock").unlink(missing_ok=True)
        path.rmdir()
    return outcome


def _recoded(body: bytes, encoding: str, wanted: str) -> bytes:
    if encoding == wanted:
        return body
    plain = decompress(encoding, body)
    return body if plain is None else compress(wanted, plain)


def _send(
    transport: Transport,
    rules: RetryRules,
    body: bytes,
    units: int,
    tries: int,
    timeout: float,
    outcome: Outcome,
) -> Iterator[float | None]:
    """Pauses to make between tries; ``None`` once the record is done with."""
    for attempt in range(tries):
        verdict = judge(rules, transport.send(0, body, timeout), units=units)
        outcome.note = verdict.note or outcome.note
        if verdict.kind is Kind.DELIVERED:
            outcome.sent += units - verdict.rejected
            outcome.rejected += verdict.rejected
            yield None
            return
        if verdict.kind is not Kind.RETRY:
            reason = verdict.reason
            outcome.refused[reason] = outcome.refused.get(reason, 0) + units
            yield None
            return
        wait = verdict.after if verdict.after is not None else min(0.5 * 2**attempt, 10.0)
        if attempt + 1 == tries or wait > LONGEST_PAUSE:
            return
        yield wait
