"""Processes that count together: totals never decrease, files stay few, nothing is counted twice."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hastack import events
from hastack.observe.instruments import CellNotShared, Metrics

SOURCE = str(Path(__file__).resolve().parents[2] / "src")


def totals(metrics):
    return {(s.descriptor.name, s.attributes): s.numbers[0] for s in metrics.series()}


def files(directory):
    return sorted(
        path.name.partition("-")[0] for path in directory.iterdir() if path.name != "lock"
    )


def child(work, *, keep=False):
    """Fork, do ``work`` there, and say how it went; with ``keep`` leave the child running."""
    ready_r, ready_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        signal.alarm(60)  # should the test fail before it kills its child
        try:
            work()
            os.write(ready_w, b"r")
            if keep:
                signal.pause()
            status = 0
        finally:
            os._exit(status)
    os.close(ready_w)
    assert os.read(ready_r, 1) == b"r"
    os.close(ready_r)
    if not keep:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return pid


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_forked_workers_count_for_themselves_and_any_of_them_knows_the_total(tmp_path):
    metrics = Metrics(directory=tmp_path)
    shop = metrics.meter("shop")
    counter, histogram = shop.counter("c"), shop.histogram("h", bounds=(1.0,))
    bound = counter.bind({"k": "v"})
    bound.add(5)

    def work():
        bound.add(2)
        counter.add(1, {"k": "v"})
        histogram.record(0.5)
        assert totals(metrics)["c", (("k", "v"),)] == 5 + seen + 3

    seen = 0
    for _ in range(3):
        child(work)
        seen += 3
    assert totals(metrics) == {("c", (("k", "v"),)): 14, ("h", ()): 1.5}
    assert files(tmp_path) == ["ended.metrics", "live"]


def test_killed_workers_lose_nothing_and_totals_never_decrease(tmp_path):
    metrics = Metrics(directory=tmp_path)
    counter = metrics.meter("shop").counter("c")
    counter.add(0)

    def work():
        for _ in range(1000):
            counter.add()

    last = 0
    for _ in range(6):
        pid = child(work, keep=True)
        alive = totals(metrics)["c", ()]
        assert alive == last + 1000
        kill(pid)
        assert totals(metrics)["c", ()] == alive
        last = alive
    assert files(tmp_path) == ["ended.metrics", "live"]


def test_a_worker_killed_while_it_counts(tmp_path):
    metrics = Metrics(directory=tmp_path)
    counter = metrics.meter("shop").counter("c")
    counter.add(0)

    def work():
        def forever():
            number = 0
            while True:
                counter.add(1, {"n": number % 500})
                number += 1

        threading.Thread(target=forever, daemon=True).start()

    pid = child(work, keep=True)
    seen = 0
    for _ in range(30):
        now = sum(totals(metrics).values())
        assert now >= seen
        seen = now
    kill(pid)
    assert sum(totals(metrics).values()) >= seen
    assert not metrics.malformed


def test_gauges_of_workers(tmp_path):
    metrics = Metrics(directory=tmp_path)
    shop = metrics.meter("shop")
    gauges = {across: shop.gauge(across, across=across) for across in ("sum", "max", "each")}
    for gauge in gauges.values():
        gauge.set(1)

    def work():
        for gauge in gauges.values():
            gauge.set(10)

    pid = child(work, keep=True)
    assert totals(metrics) == {
        ("sum", ()): 11,
        ("max", ()): 10,
        ("each", (("process.pid", os.getpid()),)): 1,
        ("each", (("process.pid", pid),)): 10,
    }
    kill(pid)
    assert totals(metrics) == {
        ("sum", ()): 1,
        ("max", ()): 10,
        ("each", (("process.pid", os.getpid()),)): 1,
    }


@pytest.mark.parametrize("step", range(4))
def test_a_burial_that_dies_at_any_step_counts_nobody_twice_and_nobody_less(
    tmp_path, step, monkeypatch
):
    metrics = Metrics(directory=tmp_path)
    counter = metrics.meter("shop").counter("c")
    counter.add(1)
    for _ in range(2):
        child(lambda: counter.add(10))

    class Died(BaseException):
        pass

    calls = 0

    def dying(real):
        def run(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == step:
                raise Died
            result = real(*args, **kwargs)
            if step == 0:
                raise Died
            return result

        return run

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying(Path.replace))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        try:
            metrics.series()
        except Died:
            pass
    assert calls
    assert totals(metrics) == {("c", ()): 21}
    assert totals(Metrics(directory=tmp_path)) == {("c", ()): 21}
    assert files(tmp_path).count("ended.metrics") == 1


def test_many_collectors_and_short_lived_workers_at_once(tmp_path):
    metrics = Metrics(directory=tmp_path)
    counter = metrics.meter("shop").counter("c")
    counter.add(0)
    others = [Metrics(directory=tmp_path) for _ in range(2)]
    stop = threading.Event()

    def watch(mine):
        last = 0
        while not stop.is_set():
            now = totals(mine).get(("c", ()), 0)
            assert now >= last, f"{last} became {now}"
            last = now

    script = f"""
        from hastack.observe.instruments import Metrics
        Metrics(directory={str(tmp_path)!r}).meter("shop").counter("c").add(7)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    environment = {**os.environ, "PYTHONPATH": SOURCE}

    def worker(_):
        subprocess.run(command, env=environment, check=True, timeout=50)

    with ThreadPoolExecutor(5) as pool:
        watchers = [pool.submit(watch, mine) for mine in others]
        list(pool.map(worker, range(8)))
        stop.set()
        for each in watchers:
            each.result(30)
    assert totals(metrics) == {("c", ()): 56}
    assert len(files(tmp_path)) <= 5


def test_a_closed_registry_counts_as_ended(tmp_path):
    one, other = Metrics(directory=tmp_path), Metrics(directory=tmp_path)
    one.meter("m").counter("c").add(3)
    one.close()
    one.close()
    assert totals(other) == {("c", ()): 3}
    assert files(tmp_path) == ["ended.metrics", "live"]


def test_exemplars_survive_their_worker(tmp_path):
    metrics = Metrics(directory=tmp_path, exemplars=lambda: (2**100, 77))
    histogram = metrics.meter("m").histogram("h", bounds=(1.0,))
    child(lambda: histogram.record(5.0))
    [series] = metrics.series()
    assert series.exemplars[0] is None
    value, _, trace_id, span_id = series.exemplars[1]
    assert (value, trace_id, span_id) == (5.0, 2**100, 77)


def test_a_file_grows_as_it_must_and_old_cells_go_on_counting(tmp_path):
    metrics = Metrics(directory=tmp_path, limit=5000)
    counter = metrics.meter("m").counter("c")
    first = counter.bind({"n": 0})
    for number in range(3000):
        counter.add(1, {"n": number, "text": "x" * 50})
    first.add(9)
    reader = Metrics(directory=tmp_path)
    assert totals(reader)["c", (("n", 0),)] == 9
    assert sum(totals(reader).values()) == 3009
    counter.add(1, {"more": True})
    assert totals(reader)["c", (("more", True),)] == 1
    assert not reader.malformed


def test_broken_files_are_told_and_passed_over(tmp_path):
    metrics = Metrics(directory=tmp_path)
    metrics.meter("m").counter("c").add(1)
    (tmp_path / "live-1-dead.metrics").write_bytes(b"nonsense")
    (tmp_path / "live-2-dead.metrics").write_bytes(b"")
    assert totals(metrics) == {("c", ()): 1}
    assert "not a metrics file" in metrics.malformed["live-1-dead.metrics"]
    assert "live-2-dead.metrics" in metrics.malformed


def test_a_full_disk_keeps_the_numbers_in_the_process_and_says_so(tmp_path):
    def work():
        metrics = Metrics(directory=tmp_path, limit=10_000)
        counter = metrics.meter("m").counter("c")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with events.record(CellNotShared) as seen:
            for number in range(2000):
                counter.add(1, {"n": number})
        assert seen
        assert sum(totals(metrics).values()) == 2000

    child(work)


def test_a_child_whose_directory_is_gone_counts_for_itself_and_the_others_go_on(tmp_path):
    gone, here = Metrics(directory=tmp_path / "gone"), Metrics(directory=tmp_path / "here")
    lost, kept = gone.meter("m").counter("c").bind(), here.meter("m").counter("c").bind()
    shutil.rmtree(tmp_path / "gone")
    seen = []
    stop = events.subscribe(seen.append, CellNotShared)

    def work():
        assert str(tmp_path / "gone") in {event.name for event in seen}
        lost.add(1)
        kept.add(2)
        assert totals(here) == {("c", ()): 2}

    child(work)
    stop()
    assert totals(here) == {("c", ()): 2}
    assert files(tmp_path / "here") == ["ended.metrics", "live"]


def test_a_directory_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        Metrics(directory=tmp_path / "file")
