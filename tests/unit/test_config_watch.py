"""Reloading: whole or not at all, without waiting for a clock."""

import logging
import threading

import attrs
import pytest

from hastack import config, events
from hastack.errors import ConfigError, InvalidArgument
from hastack.testing import ManualClock


class Store:
    """A source in memory."""

    name = "store"

    def __init__(self, **values):
        self.values = values
        self.revision = 0
        self.reads = 0
        self.broken = None

    def put(self, **values):
        self.values = values
        self.revision += 1

    def read(self):
        self.reads += 1
        return config.Snapshot(self.values)

    def version(self):
        if self.broken:
            raise self.broken
        return self.revision


@attrs.frozen
class Settings:
    a: int = 1
    b: int = 2
    names: tuple[str, ...] = ()
    secret: config.Secret = config.Secret("")  # noqa: RUF009  # immutable


@pytest.fixture
def store():
    return Store(a=10)


@pytest.fixture
def watched(store):
    # Stopped at once: the tests look by hand and no thread is needed.
    found = config.watch(store, into=Settings, env=None, clock=ManualClock())
    found.stop()
    return found


def test_nothing_runs_before_it_is_used(store):
    before = threading.active_count()
    found = config.watch(store, into=Settings, env=None)
    assert threading.active_count() == before
    assert found.current.a == 10
    assert found._thread.daemon
    assert found.stop()
    assert threading.active_count() == before


def test_nobody_to_watch_no_thread():
    found = config.watch(env=None)
    # What other tests have imported may have sections of its own.
    assert attrs.evolve(found.current, sections={}) == config.Config()
    assert found._thread is None


def test_a_change_is_swapped_in_and_told(store, watched):
    told = []
    watched.subscribe(lambda old, new: told.append(("first", old.a, new.a, watched.current.a)))
    end = watched.subscribe(lambda old, new: told.append(("second", old.a, new.a)))
    assert watched.poll() is False
    store.put(a=11, names=["x"], secret="s3cr3t")
    with events.record(config.ConfigReloaded) as seen:
        assert watched.poll() is True
    assert told == [("first", 10, 11, 11), ("second", 10, 11)]
    assert [e.changed for e in seen] == [("a", "names", "secret")]
    assert "s3cr3t" not in repr(seen)
    end()
    end()
    store.put(a=12)
    watched.poll()
    assert told[2:] == [("first", 11, 12, 12)]


def test_the_same_values_are_no_change(store, watched):
    watched.subscribe(lambda old, new: pytest.fail("nothing changed"))
    before = watched.current
    store.put(a=10)
    with events.record() as seen:
        assert watched.poll() is False
    assert seen == []
    assert watched.current is before
    assert watched.reload() == ()


def test_a_bad_reload_keeps_the_old_one_and_says_so_once(store, watched, caplog):
    before = watched.current
    watched.subscribe(lambda old, new: pytest.fail("nothing changed"))
    store.put(a="x", c=1)
    with events.record(config.ConfigReloadFailed) as seen:
        assert watched.poll() is False
        assert watched.poll() is False
    assert watched.current is before
    assert [[m.path for m in e.mistakes] for e in seen] == [["c", "a"]]
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert "expected an integer, got 'x'" in caplog.text
    with pytest.raises(ConfigError):
        watched.reload()
    assert watched.current is before


def test_a_source_that_fails_is_read_again_when_it_is_back(store, watched):
    store.broken = OSError("down")
    with events.record(config.ConfigReloadFailed):
        watched.poll()  # the version differs: reading works all the same
    store.broken = None
    store.put(a=5)
    assert watched.poll() is True


def test_a_raising_subscriber_stops_nobody(store, watched, caplog):
    told = []

    def bad(old, new):
        raise ValueError("boom")

    watched.subscribe(bad)
    watched.subscribe(lambda old, new: told.append(new.a))
    store.put(a=11)
    assert watched.poll() is True
    assert told == [11]
    assert watched.current.a == 11
    assert "boom" in caplog.text


def test_nobody_waits_for_a_slow_subscriber(store, watched):
    entered, leave = threading.Event(), threading.Event()

    def slow(old, new):
        entered.set()
        leave.wait(10)

    watched.subscribe(slow)
    store.put(a=11)
    thread = threading.Thread(target=watched.poll)
    thread.start()
    assert entered.wait(10)
    assert watched.current.a == 11
    watched.subscribe(lambda old, new: None)()  # neither joining nor leaving
    leave.set()
    thread.join(10)


def test_a_reload_inside_a_subscriber_is_told_afterwards(store, watched):
    told = []

    def again(old, new):
        told.append(("first", old.a, new.a))
        if new.a == 11:
            store.put(a=12)
            watched.reload()

    watched.subscribe(again)
    watched.subscribe(lambda old, new: told.append(("second", old.a, new.a)))
    store.put(a=11)
    watched.poll()
    assert told == [("first", 10, 11), ("second", 10, 11), ("first", 11, 12), ("second", 11, 12)]


def test_it_waits_until_two_looks_agree(store):
    clock = ManualClock()
    found = config.watch(store, into=Settings, env=None, clock=clock)
    found.stop()
    found._stop = threading.Event()  # stopped, but waiting still takes (manual) time
    looks = []

    def version():
        looks.append(clock.monotonic())
        return min(len(looks), 4)  # changes three times, then stands

    store.version = version
    store.values = {"a": 4}
    assert found.poll() is True
    assert len(looks) == 6  # the fifth agrees with the fourth, and reload() looks again
    assert looks[4] - looks[0] == pytest.approx(0.2)
    assert store.reads == 2


def test_settling_is_bounded(store):
    found = config.watch(store, into=Settings, env=None, clock=ManualClock())
    found.stop()
    found._stop = threading.Event()
    counter = iter(range(1000))
    store.version = lambda: next(counter)
    found.poll()
    assert next(counter) < 30


def test_stopping_twice_and_using_it_afterwards(store, watched):
    assert watched.stop()
    assert watched.current.a == 10
    assert watched._thread is None
    with pytest.raises(InvalidArgument, match="timeout"):
        watched.stop(timeout=-1)


def test_bad_arguments(store, watched):
    with pytest.raises(InvalidArgument, match="period"):
        config.watch(store, period=0)
    with pytest.raises(InvalidArgument, match="callback"):
        watched.subscribe(5)
    with pytest.raises(ConfigError):
        config.watch(Store(nonsense=1), env=None)


def test_hangup_handlers_belong_to_the_main_thread(watched):
    refused = []

    def work():
        try:
            watched.reload_on_hangup()
        except InvalidArgument as error:
            refused.append(error.accepted)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert refused == ["the main thread"]


def test_it_names_its_sources(watched):
    assert repr(watched) == "<Watched Settings from store>"
    assert repr(config.watch(env=None)) == "<Watched Config from no source>"


def test_the_environment_is_taken_once(store):
    env = {"S_B": "5"}
    found = config.watch(store, into=Settings, env=env, env_prefix="S_", clock=ManualClock())
    found.stop()
    env["S_B"] = "6"
    store.put(a=1)
    found.poll()
    assert (found.current.a, found.current.b) == (1, 5)


def test_versions_of_a_file(tmp_path, monkeypatch):
    path = tmp_path / "a.toml"
    file = config.TomlFile(path)
    assert file.version() == "unreadable: 2"
    path.write_text("a = 1\n")
    first = file.version()
    assert file.version() == first
    stat = path.stat()
    path.write_text("a = 2\n")
    import os

    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, time and inode
    assert file.version() != first  # still young, so its bytes are looked at
    os.utime(path, ns=(1, 1))
    old = file.version()
    reads = []
    monkeypatch.setattr("hastack._config._files._read", lambda p: reads.append(p) or b"")
    assert file.version() == old
    assert reads == []  # an old file with the same stat is not read
    assert repr(file) == f"TomlFile({str(path)!r})"


class Part:
    """Makes ready what it is told to follow, and says what became of it."""

    def __init__(self, told, name, refuses=None, stumbles=False):
        self.told, self.name, self.refuses, self.stumbles = told, name, refuses, stumbles

    def prepare(self, old, new):
        if self.refuses is not None and new.a > self.refuses:
            raise ValueError(f"{self.name} takes no {new.a}")
        return self

    def commit(self):
        self.told.append((self.name, "commit"))
        if self.stumbles:
            raise RuntimeError("stumbled")

    def abort(self):
        self.told.append((self.name, "abort"))
        if self.stumbles:
            raise RuntimeError("stumbled")


def test_all_parts_follow_or_none_does(watched, store):
    told = []
    parts = [Part(told, "one", stumbles=True), Part(told, "two", 20), Part(told, "three", 30)]
    ends = [watched.prepare(f"part.{part.name}", part.prepare) for part in parts]
    watched.prepare("part.none", lambda old, new: None)
    watched.subscribe(lambda old, new: told.append(("subscriber", new.a)))
    with pytest.raises(InvalidArgument, match="callback"):
        watched.prepare("part", "no callable")

    store.put(a=15)
    assert watched.reload() == ("a",)
    # One that stumbles does not keep the others from following: half a change would be worse.
    committed = [("one", "commit"), ("two", "commit"), ("three", "commit"), ("subscriber", 15)]
    assert told == committed

    told.clear()
    store.put(a=40)
    with events.record() as seen, pytest.raises(ConfigError) as caught:
        watched.reload()
    assert told == [("one", "abort")]
    paths = ["part.two", "part.three"]
    assert [mistake.path for mistake in caught.value.exceptions] == paths
    assert [mistake.path for mistake in seen[0].mistakes] == paths
    assert "two takes no 40" in str(caught.value.exceptions[0])
    assert watched.current.a == 15
    assert not watched.poll()  # said once

    told.clear()
    for end in ends[1:]:
        end()
    store.put(a=50)
    assert watched.poll()
    assert told == [("one", "commit"), ("subscriber", 50)]
