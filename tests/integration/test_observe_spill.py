"""Spilling to real files: outages, restarts, kills, full disks, directories that cannot be used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from observe_items import DOWN, Memory, emit, exporter_to, numbers

from hastack.observe import QueueConfig, SpillConfig

pytestmark = pytest.mark.usefixtures("short_pauses")

QUEUE = QueueConfig(
    when_full="spill", max_units=1000, max_bytes=200_000, batch=50, linger=0.01, max_block=20.0
)


def spilling(transport, directory, *, queue=QUEUE, name="test", **options):
    spill = SpillConfig(directory=directory, **options)
    return exporter_to(transport, name, queue=queue, spill=spill)


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)


def files(directory):
    return sorted(p.name for p in Path(directory).rglob("*.seg"))


def test_an_outage_longer_than_memory_loses_nothing_and_keeps_the_order(tmp_path):
    transport = Memory()
    transport.always = DOWN
    exporter = spilling(transport, tmp_path)
    emit(exporter, numbers(10_000))
    account = exporter.account()
    assert account.balanced
    assert account.emitted == 10_000
    assert account.spilled > 5_000
    assert account.queued + account.in_flight <= 1000
    transport.always = None
    assert exporter.force_flush(40.0)
    assert transport.lines() == numbers(10_000)
    assert exporter.shutdown(5.0)
    assert files(tmp_path) == []


def test_what_is_left_at_the_end_is_sent_by_the_next_process_first(tmp_path):
    first = Memory()
    first.always = DOWN
    exporter = spilling(first, tmp_path)
    emit(exporter, numbers(3000))
    report = exporter.shutdown(2.0)
    assert not report
    account = report.account
    assert (account.spilled, account.lost, account.queued) == (3000, 0, 0)
    second = Memory()
    exporter = spilling(second, tmp_path)
    emit(exporter, numbers(10, start=3000))
    assert exporter.force_flush(40.0)
    assert second.lines() == numbers(3010)
    assert exporter.account().recovered == 3000
    assert exporter.shutdown(5.0)
    assert files(tmp_path) == []
    assert list((tmp_path / "test").iterdir()) == []


def test_another_number_of_shards_keeps_the_order(tmp_path):
    first = Memory()
    first.always = DOWN
    exporter = spilling(first, tmp_path)
    emit(exporter, numbers(300), lane=3)
    exporter.shutdown(1.0)
    second = Memory()
    fewer = QueueConfig(when_full="spill", linger=0.01, shards=2)
    exporter = spilling(second, tmp_path, queue=fewer)
    emit(exporter, numbers(10, start=300), lane=1)
    assert exporter.force_flush(40.0)
    assert second.lines() == numbers(310)
    exporter.shutdown(5.0)


def test_a_directory_in_use_is_left_alone(tmp_path):
    first, second = Memory(), Memory()
    first.always = DOWN
    one = spilling(first, tmp_path)
    emit(one, numbers(3000))
    wait_for(lambda: one.account().spilled > 0)
    two = spilling(second, tmp_path)
    emit(two, ["mine"])
    assert two.force_flush(20.0)
    assert second.lines() == ["mine"]
    assert two.shutdown(5.0)
    first.always = None
    assert one.force_flush(40.0)
    assert first.lines() == numbers(3000)
    one.shutdown(5.0)


@pytest.mark.parametrize("policy", ["drop-newest", "drop-oldest"])
def test_the_cap_of_the_disk_holds(tmp_path, policy):
    transport = Memory()
    transport.always = DOWN
    queue = QueueConfig(
        when_full="spill", max_units=200, max_bytes=20_000, batch=50, linger=0.01, max_block=0.2
    )
    exporter = spilling(transport, tmp_path, queue=queue, max_bytes=65536, when_full=policy)
    emit(exporter, numbers(20_000))
    used = sum(p.stat().st_size for p in tmp_path.rglob("*.seg"))
    assert used <= 65536
    account = exporter.account()
    assert account.balanced
    assert account.dropped["spill_full"] > 5_000
    assert set(account.dropped) == {"spill_full"}
    transport.always = None
    assert not exporter.force_flush(0.0)
    wait_for(lambda: not exporter.account().pending)
    lines = transport.lines()
    assert lines == sorted(lines)
    assert len(lines) == exporter.account().sent == 20_000 - exporter.account().lost
    if policy == "drop-oldest":
        assert lines[-1] == "line 019999"
    else:
        assert lines[:100] == numbers(100)
    exporter.shutdown(5.0)


def test_a_damaged_file_costs_what_was_damaged(tmp_path):
    transport = Memory()
    transport.always = DOWN
    exporter = spilling(transport, tmp_path)
    emit(exporter, numbers(3000))
    exporter.shutdown(2.0)
    segment = max(tmp_path.rglob("*.seg"), key=lambda p: p.stat().st_size)
    data = bytearray(segment.read_bytes())
    at = data.index(b"line", len(data) // 2)
    data[at] ^= 1
    segment.write_bytes(bytes(data[:-3]))  # and a torn tail
    second = Memory()
    exporter = spilling(second, tmp_path)
    emit(exporter, ["new"])
    assert exporter.force_flush(40.0)
    lines = second.lines()
    assert lines[-1] == "new"
    assert len(lines) == exporter.account().recovered + 1
    assert 3000 - 150 <= exporter.account().recovered < 3000
    assert exporter._spill.damaged_records == 1
    assert exporter._spill.torn_bytes > 0
    exporter.shutdown(5.0)


def test_a_record_damaged_while_the_process_runs_is_counted(tmp_path):
    transport = Memory()
    transport.always = DOWN
    exporter = spilling(transport, tmp_path)
    emit(exporter, numbers(3000))
    wait_for(lambda: exporter.account().spilled > 1500)
    segment = max(tmp_path.rglob("*.seg"), key=lambda p: p.stat().st_size)
    with segment.open("r+b") as file:
        file.seek(segment.stat().st_size // 2)
        file.write(b"\0\0\0\0")
    transport.always = None
    wait_for(lambda: not exporter.account().pending, 40.0)
    account = exporter.account()
    assert account.balanced
    assert account.dropped["damaged"] == 50
    assert account.sent == 2950
    exporter.shutdown(5.0)


def test_a_directory_that_cannot_be_used_is_said_and_costs_no_hang(tmp_path):
    (tmp_path / "file").write_text("no directory")
    transport = Memory()
    transport.always = DOWN
    queue = QueueConfig(
        when_full="spill", max_units=100, max_bytes=20_000, batch=10, linger=0.01, max_block=0.1
    )
    exporter = spilling(transport, tmp_path / "file", queue=queue)
    emit(exporter, numbers(1000))
    account = exporter.account()
    assert account.balanced
    assert account.dropped["spill_unavailable"] >= 800
    transport.always = None
    exporter.force_flush(20.0)
    report = exporter.shutdown(5.0)
    assert report.account.sent + report.account.lost == 1000


UNPRIVILEGED = """
import os, sys
sys.path[:0] = {path!r}
from observe_items import DOWN, Memory, emit, exporter_to, numbers
from hastack.observe import QueueConfig, SpillConfig, _spill
_spill.checksum()
import fcntl, opentelemetry.context, opentelemetry.sdk.resources  # while it may still read them
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
transport = Memory()
transport.always = DOWN
queue = QueueConfig(when_full="spill", max_units=100, batch=10, linger=0.01, max_block=0.1)
exporter = exporter_to(transport, queue=queue, spill=SpillConfig(directory=sys.argv[1]))
emit(exporter, numbers(500))
print(dict(exporter.account().dropped), exporter.account().balanced)
transport.always = None
print(exporter.shutdown(5.0).account.sent)
"""


def child(script, *arguments, **options):
    path = [p for p in sys.path if p]
    return subprocess.Popen(
        [sys.executable, "-c", script.format(path=path), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_directory_that_is_read_only(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    # Parents that pytest keeps to itself would be a different fault.
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            try:
                parent.chmod(parent.stat().st_mode | 0o755)
            except OSError:
                break
    process = child(UNPRIVILEGED, closed)
    out, _ = process.communicate(timeout=50)
    first, second = out.splitlines()
    assert "spill_unavailable" in first
    assert first.endswith("True")
    assert int(second) >= 90
    assert list(closed.iterdir()) == []


FULL_DISK = """
import resource, sys
sys.path[:0] = {path!r}
from observe_items import DOWN, Memory, emit, exporter_to, numbers
from hastack.observe import QueueConfig, SpillConfig
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # no file beyond: EFBIG
transport = Memory()
transport.always = DOWN
queue = QueueConfig(when_full="spill", max_units=200, batch=50, linger=0.01, max_block=0.2)
exporter = exporter_to(transport, queue=queue, spill=SpillConfig(directory=sys.argv[1]))
emit(exporter, numbers(10_000))
account = exporter.account()
print(account.balanced, account.spilled > 500, sorted(account.dropped))
transport.always = None
while exporter.account().pending:
    exporter.force_flush(0.2)
lines = transport.lines()
account = exporter.account()
print(lines == sorted(set(lines)), account.sent == len(lines), account.balanced)
print(sum(account.dropped.values()) + account.sent)
exporter.shutdown(5.0)
"""


def test_a_full_disk(tmp_path):
    process = child(FULL_DISK, tmp_path)
    out, _ = process.communicate(timeout=55)
    assert out.splitlines() == [
        "True True ['disk_full']",
        "True True True",
        "10000",
    ]


KILLED = """
import sys, time
sys.path[:0] = {path!r}
from observe_items import DOWN, Memory, emit, exporter_to, numbers
from hastack.observe import QueueConfig, SpillConfig
transport = Memory()
transport.always = DOWN
queue = QueueConfig(
    when_full="spill", max_units=1000, max_bytes=200_000, batch=50, linger=0.01, max_block=20.0
)
exporter = exporter_to(transport, queue=queue, spill=SpillConfig(directory=sys.argv[1]))
n = 0
while True:
    emit(exporter, numbers(100, start=n))
    n += 100
    account = exporter.account()
    # What is acknowledged now is on disk whatever happens from here on.
    print(account.spilled, account.queued + account.in_flight, account.emitted, flush=True)
"""


def test_a_killed_process_loses_only_what_was_in_memory(tmp_path):
    process = child(KILLED, tmp_path)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if int(line.split()[0]) > 20_000:
            break
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.read().splitlines(keepends=True)
    process.wait(20)
    process.stdout.close()
    whole = [line for line in lines if line.endswith("\n") and len(line.split()) == 3]
    acknowledged, in_memory, _ = map(int, whole[-1].split())
    transport = Memory()
    exporter = spilling(transport, tmp_path)
    emit(exporter, ["new"])
    assert exporter.force_flush(50.0)
    account = exporter.account()
    assert account.recovered >= acknowledged
    got = transport.lines()
    assert got[-1] == "new"
    assert len(got) == len(set(got)) == account.recovered + 1
    assert got == [*sorted(got[:-1]), "new"]
    # The head of the queue was in memory; all that was spilled comes behind it, without a hole.
    first = int(got[0].split()[1])
    assert got[:-1] == numbers(account.recovered, start=first)
    assert first <= in_memory + 100
    exporter.shutdown(5.0)


def test_descriptors_do_not_leak(tmp_path):
    for _ in range(3):
        transport = Memory()
        transport.always = DOWN
        exporter = spilling(transport, tmp_path)
        emit(exporter, numbers(2000))
        exporter.shutdown(1.0)

    def ours():
        found = []
        for entry in Path("/proc/self/fd").iterdir():
            try:
                found.append(str(entry.readlink()))
            except OSError:
                continue  # the descriptor of the listing itself
        return [target for target in found if target.startswith(str(tmp_path))]

    wait_for(lambda: ours() == [])
