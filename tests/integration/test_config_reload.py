"""Files that change under a running watch: renamed over, linked anew, written in place."""

import gc
import os
import queue
import signal
import threading
import time
import weakref

import pytest

from hastack import config, events

PERIOD = 0.02


def toml(n):
    return f"[health]\nfailures = {n}\nsuccesses = {n}\n"


def replace(path, text):
    """As a careful writer does it."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "service.toml"
    found.write_text(toml(1))
    return found


@pytest.fixture
def changes():
    return queue.Queue()


@pytest.fixture
def watched(path, changes):
    with config.watch(path, env=None, period=PERIOD) as found:
        found.subscribe(lambda old, new: changes.put((old.health.failures, new.health.failures)))
        yield found


def test_a_file_renamed_over(path, watched, changes):
    for n in range(2, 6):
        replace(path, toml(n))
        assert changes.get(timeout=10) == (n - 1, n)
    assert watched.current.health.failures == 5


def test_a_config_map(tmp_path, changes):
    """Kubernetes: file -> ..data/file, ..data -> a dated folder, swapped by renaming a link."""
    for n in (1, 2):
        folder = tmp_path / f"..2024_{n}"
        folder.mkdir()
        (folder / "service.toml").write_text(toml(n))
        os.utime(folder / "service.toml", (0, 0))  # old on both sides: only the inode differs
    (tmp_path / "..data").symlink_to("..2024_1")
    path = tmp_path / "service.toml"
    path.symlink_to("..data/service.toml")
    with config.watch(path, env=None, period=PERIOD) as watched:
        watched.subscribe(lambda old, new: changes.put(new.health.failures))
        assert watched.current.health.failures == 1
        (tmp_path / "..data_tmp").symlink_to("..2024_2")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        assert changes.get(timeout=10) == 2


def test_a_file_written_in_pieces_ends_up_whole(path, watched, changes):
    text = toml(7)
    with path.open("w") as file:
        for piece in (text[:12], text[12:26], text[26:]):
            file.write(piece)
            file.flush()
            time.sleep(0.015)
    assert changes.get(timeout=10) == (1, 7)
    deadline = time.monotonic() + 10
    while watched.current.health.successes != 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert watched.current == config.load(path, env=None)


def test_bad_then_good(path, watched, changes):
    failures = events.Queue()
    end = events.subscribe(failures, config.ConfigReloadFailed)
    try:
        replace(path, "[health]\nfailures = 0\n[nonsense]\n")
        failed = failures.get(10)
        assert [m.source for m in failed.mistakes] == [f"{path}:3", f"{path}:2"]
        path.unlink()
        assert failures.get(10).mistakes[0].problem.startswith("cannot be read")
        assert watched.current.health.failures == 1
        path.write_text(toml(3))
        assert changes.get(timeout=10) == (1, 3)
        assert failures.take() == []
    finally:
        end()


def test_readers_see_whole_trees_in_order(path, watched, changes):
    """Both values are written together; no reader may ever see them apart or going back."""
    stop, wrong = threading.Event(), []

    def read():
        last = 0
        while not stop.is_set():
            now = watched.current
            if now.health.failures != now.health.successes or now.health.failures < last:
                wrong.append(now)
            last = now.health.failures

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(2, 12):
        replace(path, toml(n))
        assert watched.reload() or changes.get(timeout=10)
    stop.set()
    for reader in readers:
        reader.join(10)
    assert wrong == []
    assert watched.current.health.failures == 11


def test_subscribing_and_reloading_from_many_threads(path):
    with config.watch(path, env=None, period=60.0) as watched:
        lock, seen = threading.Lock(), []

        def work(n):
            end = watched.subscribe(
                lambda old, new: seen.append((old.health.failures, new.health.failures))
            )
            for step in range(5):
                with lock:
                    replace(path, toml(10 * n + step + 2))
                watched.reload()
            end()

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert watched._subscribers == ()
        assert all(old != new for old, new in seen)


def test_the_thread_ends_at_once_and_with_its_owner(path):
    watched = config.watch(path, env=None, period=60.0)
    assert watched.current
    thread = watched._thread
    assert watched.stop(30.0)  # half its period
    assert not thread.is_alive()

    dropped = config.watch(path, env=None, period=PERIOD)
    assert dropped.current
    thread, gone = dropped._thread, weakref.ref(dropped)
    del dropped
    gc.collect()
    thread.join(10)
    assert gone() is None
    assert not thread.is_alive()


def test_stop_says_when_a_subscriber_holds_it_up(path):
    entered, leave = threading.Event(), threading.Event()

    def slow(old, new):
        entered.set()
        leave.wait(10)

    watched = config.watch(path, env=None, period=PERIOD)
    watched.subscribe(slow)
    replace(path, toml(2))
    assert entered.wait(10)
    assert watched.stop(0.05) is False
    leave.set()
    assert watched.stop(10.0) is True


@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning"
)  # forking with threads is the point
def test_a_forked_child_watches_on(path, watched, changes):
    assert watched.current.health.failures == 1
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover  # the child reports through the pipe
        signal.alarm(15)  # a child that hangs must not outlive the test
        try:
            deadline = time.monotonic() + 10
            while watched.current.health.failures != 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            os.write(write, b"%d" % watched.current.health.failures)
        finally:
            os._exit(0)
    os.close(write)
    replace(path, toml(2))
    assert os.read(read, 10) == b"2"
    os.close(read)
    os.waitpid(pid, 0)
    assert changes.get(timeout=10) == (1, 2)


def test_hangup_reloads_what_does_not_look_changed(changes):
    class Fickle:
        name = "fickle"
        n = 1

        def read(self):
            return config.Snapshot({"health": {"failures": self.n}})

        def version(self):
            return None

    source = Fickle()
    with config.watch(source, env=None, period=PERIOD) as watched:
        watched.subscribe(lambda old, new: changes.put(new.health.failures))
        before = signal.getsignal(signal.SIGHUP)
        restore = watched.reload_on_hangup()
        try:
            source.n = 2
            with pytest.raises(queue.Empty):
                changes.get(timeout=5 * PERIOD)
            os.kill(os.getpid(), signal.SIGHUP)
            assert changes.get(timeout=10) == 2
        finally:
            restore()
        assert signal.getsignal(signal.SIGHUP) == before
