"""What an operator wants to see of a run."""

from __future__ import annotations

import attrs

from hastack.events import Event, topic

__all__ = (
    "FileRotated",
    "LinesDropped",
    "RunEnded",
    "RunStarted",
    "SourceDamaged",
    "WorkerRestarted",
)


@attrs.frozen(kw_only=True)
class RunStarted(Event):
    """An engine began to read.

    Attributes:
        name: The engine.
    """

    name: str


@attrs.frozen(kw_only=True)
class RunEnded(Event):
    """An engine read everything, or was stopped.

    Attributes:
        name: The engine.
        took: Seconds.
        lines: Lines read.
        rejects: Lines that became no record.
        error: What ended it early, in words; empty when nothing did.
    """

    name: str
    took: float
    lines: int
    rejects: int
    error: str


@attrs.frozen(kw_only=True)
class FileRotated(Event):
    """A followed path changed under its reader.

    Attributes:
        name: The path.
        reason: ``replaced``, ``truncated``, ``vanished``, ``returned`` or ``expired`` (a rotated
            file is no longer watched for late lines).
    """

    name: str
    reason: str


@attrs.frozen(kw_only=True)
class SourceDamaged(Event):
    """A source could not be read to its end; what could be read was delivered.

    Attributes:
        name: The source.
        reason: Why, in words.
    """

    name: str
    reason: str


@attrs.frozen(kw_only=True)
class LinesDropped(Event):
    """A listener lost messages, or a line was cut; published once a second at most per reason.

    Attributes:
        name: The source.
        reason: As in the account.
        count: How many since the last such event.
    """

    name: str
    reason: str
    count: int


@attrs.frozen(kw_only=True)
class WorkerRestarted(Event):
    """A worker process died, and its batch is parsed again.

    Attributes:
        name: The engine.
        exit_status: How it ended; negative for a signal.
    """

    name: str
    exit_status: int


RUN_STARTED = topic(RunStarted)
RUN_ENDED = topic(RunEnded)
FILE_ROTATED = topic(FileRotated)
SOURCE_DAMAGED = topic(SourceDamaged)
LINES_DROPPED = topic(LinesDropped)
WORKER_RESTARTED = topic(WorkerRestarted)
