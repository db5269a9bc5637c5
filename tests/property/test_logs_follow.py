"""Whatever is done to the files of a path, each whole line is delivered once."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hastack.observe.logs import Batching, Follow
from hastack.observe.logs._lines import lines_of

BLOCK = Batching(bytes=64)


class Rotations(RuleBasedStateMachine):
    """A writer, a rotator and a follower take turns as hypothesis likes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "app.log"
        self.written = 0
        self.now = 0.0
        self.delivered: list[str] = []
        self.expected: list[str] = []
        self.checkpoint = self.folder / "checkpoint"
        self.follow = self.begin()
        self.rotations = 0
        self.ticks = int(time.time()) + 1000

    def begin(self) -> Follow:
        return Follow(self.path, checkpoint=self.checkpoint)

    def teardown(self) -> None:
        self.settle_down()
        self.follow.close()
        shutil.rmtree(self.folder)
        assert sorted(self.delivered) == sorted(self.expected)

    @rule(count=st.integers(1, 12), length=st.integers(0, 40))
    def write(self, count: int, length: int) -> None:
        with self.path.open("a") as file:
            for _ in range(count):
                line = f"{self.written} {'x' * length}"
                self.written += 1
                file.write(f"{line}\n")
                self.expected.append(line)

        self.stamp(self.path)

    def stamp(self, path: Path) -> None:
        """File systems stamp by ticks of some milliseconds, and rules run faster than that."""
        self.ticks += 1
        os.utime(path, ns=(self.ticks * 10**9, self.ticks * 10**9))

    @rule(times=st.integers(1, 30))
    def look(self, times: int) -> None:
        for _ in range(times):
            self.take()

    def take(self) -> None:
        (path,) = self.follow._paths.values()
        self.now += 0.1
        for chunk in path.look(BLOCK.bytes, self.now):
            if chunk.data is not None:
                self.delivered += [str(line) for line in lines_of(chunk.data)]
            self.follow.settle(chunk.position)

    def has_open(self) -> bool:
        """Whether the present file is open."""
        (path,) = self.follow._paths.values()
        tail = path._current
        if tail is None or not self.path.exists():
            return False
        return tail.identity.inode == self.path.stat().st_ino

    @precondition(lambda self: self.path.exists())
    @rule()
    def rename(self) -> None:
        for number in range(30, 0, -1):
            older = self.folder / f"app.log.{number}"
            if older.exists():
                older.rename(self.folder / f"app.log.{number + 1}")
        self.path.rename(self.folder / "app.log.1")

    @precondition(lambda self: self.path.exists())
    @rule()
    def create_after_rename(self) -> None:
        self.rename()
        self.path.touch()
        self.stamp(self.path)

    @precondition(lambda self: self.has_open())
    @rule()
    def copy_and_truncate(self) -> None:
        self.rotations += 1
        copy = self.folder / f"app.log-{self.rotations:04}"
        shutil.copy(self.path, copy)
        self.stamp(copy)
        os.truncate(self.path, 0)
        self.stamp(self.path)

    @precondition(lambda self: self.has_open())
    @rule()
    def delete(self) -> None:
        self.path.unlink()
        for _ in range(10 + len(self.expected)):  # what was open can be read still
            self.take()

    @rule()
    def restart(self) -> None:
        self.follow.close()
        self.follow = self.begin()

    @invariant()
    def nothing_twice(self) -> None:
        assert len(self.delivered) == len(set(self.delivered))

    def settle_down(self) -> None:
        if not self.path.exists():
            self.path.touch()
        self.write(1, 1)  # of a file that was truncated before it was read, the next line tells
        self.now += 10.0
        for _ in range(60 + 2 * len(self.expected)):
            self.take()


TestRotations = Rotations.TestCase
TestRotations.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
