"""How far files were read, kept in a file, so that the next process goes on there."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, final

import attrs

from hastack._core._whole_file import replace

from ._follow_plan import Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ("Checkpoint", "Generation", "Progress")

_VERSION = 1
_EVERY = 1.0  # seconds between two writes


@final
@attrs.frozen
class Generation:
    """A position in one of the files that a path has led to."""

    identity: Identity
    offset: int
    mark: bytes
    changed: int  # when the file had been written to last, in nanoseconds


@final
@attrs.frozen
class Progress:
    """How far the files of one path were delivered.

    Attributes:
        files: Those that are not done with, older ones first.
        ends: Where reading of earlier ones ended; what holds such a position was read.
        since: With no file left: when the last one was written to last, in nanoseconds.
    """

    files: tuple[Generation, ...] = ()
    ends: tuple[Generation, ...] = ()
    since: int | None = None


@final
class Checkpoint:
    """The file. It is replaced whole: a reader sees the old or the new one.

    Args:
        path: Where it is.

    Raises:
        ValueError: There is a file, and it is no checkpoint.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved_at = float("-inf")
        self._last = b""
        self.found: dict[str, Progress] = {}
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return
        try:
            self.found = _read(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no checkpoint: {error}") from None

    def save(self, paths: Mapping[str, Progress], *, now: bool) -> None:
        """Write it, once a second at most unless ``now``."""
        at = time.monotonic()
        if not now and at < self._saved_at + _EVERY:
            return
        self._saved_at = at
        content = {
            name: {"files": _plain(each.files), "ends": _plain(each.ends), "since": each.since}
            for name, each in paths.items()
        }
        text = json.dumps({"version": _VERSION, "paths": content}).encode()
        if text == self._last:
            return
        replace(self._path, text)
        self._last = text


def _plain(generations: Iterable[Generation]) -> list[list[object]]:
    return [
        [each.identity.device, each.identity.inode, each.offset, each.mark.hex(), each.changed]
        for each in generations
    ]


def _read(content: Any) -> dict[str, Progress]:
    if content["version"] != _VERSION:
        raise ValueError(f"version {content['version']}")
    return {
        name: Progress(
            _generations(each["files"]),
            _generations(each["ends"]),
            None if each["since"] is None else int(each["since"]),
        )
        for name, each in content["paths"].items()
    }


def _generations(plain: Any) -> tuple[Generation, ...]:
    return tuple(
        Generation(
            Identity(int(device), int(inode)), int(offset), bytes.fromhex(mark), int(changed)
        )
        for device, inode, offset, mark, changed in plain
    )
