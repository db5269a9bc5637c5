"""Followers of real files, while other processes write, rotate and die."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from two_line_parser import TwoLineParser

from hastack import context, events
from hastack.errors import InvalidArgument
from hastack.observe import logs
from hastack.observe.logs import _engine_events

PATIENCE = 30.0  # only ends what hangs

# Writes n=0, n=1 ... in pieces that end anywhere, and rotates as it is told to.
WRITER = r"""
import os, shutil, sys, time
path, count, way, start = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
file = open(path, "ab", buffering=0)
rotated = 0
for number in range(start, start + count):
    line = b"n=%d\n" % number
    file.write(line[:3]); file.write(line[3:])
    if number % 500 == 499:
        rotated += 1
        if way == "rename":
            for n in range(20, 0, -1):
                if os.path.exists(f"{path}.{n}"):
                    os.rename(f"{path}.{n}", f"{path}.{n + 1}")
            os.rename(path, path + ".1")
            file.write(b"late=%d\n" % number)
            file = open(path, "ab", buffering=0)
        elif way == "copytruncate":
            shutil.copy(path, f"{path}-{rotated:04}")
            os.truncate(path, 0)
        elif way == "symlink":
            real = f"{path}.real{rotated}"
            file = open(real, "ab", buffering=0)
            os.symlink(real, path + ".new")
            os.rename(path + ".new", path)
        # Of two swaps between two looks at a link, nothing tells where it led meanwhile.
        time.sleep(0.5 if way == "symlink" else 0.05)
    if number % 50 == 0:
        time.sleep(0.002)
print("done", flush=True)
time.sleep(60)
"""


@pytest.fixture
def writers() -> Iterator[Any]:
    started: list[subprocess.Popen[str]] = []

    def start(path: Path, count: int, way: str, first: int = 0) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, str(path), str(count), way, str(first)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def collect(engine: logs.Engine, expected: int) -> tuple[list[int], int]:
    """Read until as many numbers have come; also the count of late lines."""
    numbers: list[int] = []
    late = 0
    with context.timeout(PATIENCE):
        for batch in engine:
            for record in batch.records:
                if record["key"] == "late":
                    late += 1
                else:
                    numbers.append(record["value"])
            if len(numbers) >= expected:
                engine.stop()
    return numbers, late


@pytest.mark.parametrize("way", ["rename", "copytruncate", "symlink"])
def test_no_line_is_lost_or_doubled_while_files_rotate(
    tmp_path: Path, writers: Any, way: str
) -> None:
    path = tmp_path / "app.log"
    if way == "symlink":
        (tmp_path / "first").touch()
        path.symlink_to(tmp_path / "first")
    with events.record(_engine_events.FileRotated) as seen:
        engine = logs.Engine(logs.Follow(path, poll=0.02), parser=TwoLineParser())
        writers(path, 4000, way)
        numbers, late = collect(engine, 4000)
    assert sorted(numbers) == list(range(4000))
    if way != "copytruncate":  # there, what was left is read from the copy, later
        assert numbers == sorted(numbers)
    if way == "rename":
        assert late >= 6  # written to files that were renamed before
    account = engine.account()
    assert account.balanced
    assert account.rejects == 0
    expected = "truncated" if way == "copytruncate" else "replaced"
    assert expected in {event.reason for event in seen}


def test_what_was_copied_and_truncated_between_two_looks_is_read_from_the_copies(
    tmp_path: Path,
) -> None:
    path = tmp_path / "app.log"
    path.touch()
    engine = logs.Engine(logs.Follow(path, poll=0.1), parser=TwoLineParser())

    def rotate() -> None:
        for number in range(4):
            append(path, f"n={number}\n")
            shutil.copy(path, tmp_path / f"app.log.{number}")
            os.truncate(path, 0)

    turn = threading.Timer(0.3, rotate)  # by then the empty file is open
    turn.start()
    numbers, _ = collect(engine, 4)
    turn.join()
    assert sorted(numbers) == [0, 1, 2, 3]


def test_a_writer_that_is_killed_leaves_half_a_line_for_its_successor(
    tmp_path: Path, writers: Any
) -> None:
    path = tmp_path / "app.log"
    engine = logs.Engine(logs.Follow(path, poll=0.02), parser=TwoLineParser())
    first = writers(path, 10**6, "rename")
    threading.Timer(0.5, first.kill).start()
    threading.Timer(0.7, append, (path, "\nend=1\n")).start()
    numbers: list[int] = []
    with context.timeout(PATIENCE):
        for batch in engine:
            for record in batch.records:
                if record["key"] == "end":
                    engine.stop()
                elif record["key"] == "n":
                    numbers.append(record["value"])
    assert numbers[:-1] == list(range(len(numbers) - 1))
    assert numbers


def test_a_checkpoint_goes_on_over_a_rotation_while_nobody_followed(tmp_path: Path) -> None:
    path, mark = tmp_path / "app.log", tmp_path / "mark"

    def read() -> list[int]:
        source = logs.Follow(path, checkpoint=mark)
        source.stop()  # one look
        found: list[int] = []
        with logs.Engine(source, parser=TwoLineParser()) as engine:
            engine.run(lambda batch: found.extend(record["value"] for record in batch.records))
        return found

    def rotate() -> None:
        for number in (2, 1):
            if (older := tmp_path / f"app.log.{number}").exists():
                older.rename(tmp_path / f"app.log.{number + 1}")
        path.rename(tmp_path / "app.log.1")

    path.write_text("n=1\nn=2\nn=")
    found = read() + read()
    append(path, "3\nn=4\n")
    rotate()
    time.sleep(0.02)
    path.write_text("n=5\n")
    rotate()
    time.sleep(0.02)
    path.write_text("n=6\n")
    for _ in range(6):
        found += read()
    assert found == [1, 2, 3, 4, 5, 6]
    mark.write_text("{")
    with pytest.raises(ValueError, match="no checkpoint"):
        logs.Follow(path, checkpoint=mark)


def test_what_a_sink_did_not_take_is_read_again(tmp_path: Path) -> None:
    path, mark = tmp_path / "app.log", tmp_path / "mark"
    path.write_text("".join(f"n={n}\n" for n in range(100)))
    taken: list[int] = []

    def sink(batch: logs.Parsed) -> None:
        if len(taken) >= 50:
            raise OSError("full")
        taken.extend(record["value"] for record in batch.records)

    small = logs.Batching(bytes=300)
    source = logs.Follow(path, checkpoint=mark)
    engine = logs.Engine(source, parser=TwoLineParser(), batching=small)
    with pytest.raises(OSError, match="full"):
        engine.run(sink)
    assert len(taken) >= 50
    taken_again: list[int] = []
    for _ in range(20):
        source = logs.Follow(path, checkpoint=mark)
        source.stop()
        logs.Engine(source, parser=TwoLineParser(), batching=small).run(
            lambda batch: taken_again.extend(record["value"] for record in batch.records)
        )
    assert taken + taken_again == list(range(100))


def test_a_file_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    source = logs.Follow(path, poll=0.02, rotate_wait=0.1)
    engine = logs.Engine(source, parser=TwoLineParser())
    found: list[int] = []
    reasons: list[str] = []
    undo = events.subscribe(lambda event: reasons.append(event.reason), _engine_events.FileRotated)
    runner = threading.Thread(
        target=lambda: engine.run(
            lambda batch: found.extend(record["value"] for record in batch.records)
        )
    )
    runner.start()

    def wait(condition: Any) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.01)

    try:
        path.write_text("n=1\n")
        wait(lambda: found == [1])
        path.unlink()
        wait(lambda: "expired" in reasons)
        path.write_text("n=2\n")
        wait(lambda: found == [1, 2])
        path.chmod(0)
        path.rename(tmp_path / "aside")
        (tmp_path / "app.log").mkdir()
        wait(lambda: engine.account().damaged)
        (tmp_path / "app.log").rmdir()
        path.write_text("n=3\n")
        wait(lambda: found == [1, 2, 3])
        assert not engine.account().damaged
    finally:
        engine.stop()
        runner.join(PATIENCE)
        undo()
    assert {"vanished", "returned", "expired"} <= set(reasons)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_following_disturbs_nobody(tmp_path: Path) -> None:
    path, mark = tmp_path / "app.log", tmp_path / "mark"
    path.write_text("n=0\n")
    engine = logs.Engine(logs.Follow(path, checkpoint=mark, poll=0.02), parser=TwoLineParser())
    assert next(engine).records == [{"key": "n", "value": 0}]
    child = os.fork()
    if not child:
        status = 1
        try:
            next(engine)
        except RuntimeError:
            engine.close()
            # A follower of one's own is no trouble.
            with logs.Engine(logs.Follow(path), parser=TwoLineParser()) as own:
                status = 0 if next(own).records else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    append(path, "n=1\nn=2\n")
    numbers, _ = collect(engine, 2)
    assert numbers == [1, 2]
    source = logs.Follow(path, checkpoint=mark)
    source.stop()
    assert list(logs.Engine(source, parser=TwoLineParser())) == []


def test_where_to_begin(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("n=1\nn=2\nn=")
    engine = logs.Engine(logs.Follow(path, start="end", poll=0.02), parser=TwoLineParser())
    threading.Timer(0.1, lambda: append(path, "3\nn=4\n")).start()
    assert collect(engine, 2)[0] == [3, 4]
    with pytest.raises(InvalidArgument, match="start"):
        logs.Follow(path, start="middle")
    with pytest.raises(InvalidArgument, match="paths"):
        logs.Follow()


def test_killing_the_follower_delivers_again_at_most(tmp_path: Path) -> None:
    """At least once: what was delivered after the last save comes again, nothing is missing."""
    path, mark, out = tmp_path / "app.log", tmp_path / "mark", tmp_path / "out"
    program = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parents[1] / "support")]!r}
from hastack.observe import logs
from two_line_parser import TwoLineParser
source = logs.Follow({str(path)!r}, checkpoint={str(mark)!r}, poll=0.02)
with logs.JsonLines({str(out)!r}) as sink:
    logs.Engine(source, parser=TwoLineParser()).run(sink)
"""
    path.touch()
    written = 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", program])
        try:
            until = time.monotonic() + PATIENCE
            goal = written + 500
            while f'"value":{goal - 1}}}' not in (out.read_text() if out.exists() else ""):
                assert time.monotonic() < until
                assert process.poll() is None
                if written < goal:
                    with path.open("a") as file:
                        file.writelines(f"n={n}\n" for n in range(written, written + 50))
                    written += 50
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    numbers = {int(line.split(":")[2].rstrip("}")) for line in out.read_text().splitlines()}
    assert numbers == set(range(written))
