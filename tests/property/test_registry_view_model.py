"""The view of a service is a function of what the store holds, however it came to know it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hastack.discovery import Batch, Instance, KeyValue, WatchEvent
from hastack.discovery._layout import InstanceKey
from hastack.discovery._merge import rank
from hastack.discovery._registry_view import Source, View

WALL = 1_700_000_000.0
SOURCES = [Source("reg", "home"), Source("mir", "east"), Source("mir", "west")]
IDS = ["a", "b", "c"]
JUNK = [b"", b"{}", b"[]", b"null", b'{"address":1}', b'{"address":"x","weight":-1}', b"\xff"]


def key_of(source, name):
    return InstanceKey(source.area, source.origin, "default", "orders", name).to_bytes()


def value_of(source, name, weight, incarnation):
    return Instance(
        service="orders",
        id=name,
        address=f"{name}.{source.origin}:80",
        origin=source.origin,
        weight=weight,
        incarnation=incarnation,
    ).to_bytes()


def put(key, value, revision):
    return WatchEvent("put", KeyValue(key, value, revision, revision, 1))


def delete(key, revision):
    return WatchEvent("delete", KeyValue(key, b"", 0, revision, 0))


class Model(RuleBasedStateMachine):
    """A store in plain dicts, one watch per source that may lag, and what subscribers were told."""

    @initialize()
    def begin(self):
        self.revision = 1
        self.store = {source: {} for source in SOURCES}  # key -> (value, revision)
        self.unsent = {source: [] for source in SOURCES}
        self.watched = set()
        self.view = View()
        self.told = {}
        self.stale = frozenset()
        self.reported = []

    def take(self, changes):
        for change in changes:
            name = change.instance.id
            if change.kind == "added":
                assert name not in self.told
                self.told[name] = change.instance
            elif change.kind == "updated":
                assert self.told[name] == change.previous != change.instance
                self.told[name] = change.instance
            else:
                assert self.told.pop(name) == change.instance

    def write(self, source, key, value):
        self.revision += 1
        if value is None:
            if self.store[source].pop(key, None) is None:
                return
            event = delete(key, self.revision)
        else:
            self.store[source][key] = (value, self.revision)
            event = put(key, value, self.revision)
        self.unsent[source].append(event)

    @rule(
        source=st.sampled_from(SOURCES),
        name=st.sampled_from(IDS),
        weight=st.sampled_from([1.0, 2.0]),
        ahead=st.sampled_from([0, 5, 3600]),
    )
    def register(self, source, name, weight, ahead):
        incarnation = int((WALL + ahead) * 1000) << 48
        self.write(source, key_of(source, name), value_of(source, name, weight, incarnation))

    @rule(source=st.sampled_from(SOURCES), name=st.sampled_from(IDS))
    def deregister(self, source, name):
        self.write(source, key_of(source, name), None)

    @rule(source=st.sampled_from(SOURCES), name=st.sampled_from(IDS), junk=st.sampled_from(JUNK))
    def spoil(self, source, name, junk):
        self.write(source, key_of(source, name), junk)

    @rule(source=st.sampled_from(SOURCES), tail=st.sampled_from([b"a/b", b"%61", b""]))
    def stray_key(self, source, tail):
        self.write(source, key_of(source, "x")[:-1] + tail, value_of(source, "x", 1.0, 0))

    @rule(source=st.sampled_from(SOURCES), count=st.integers(1, 4))
    def deliver(self, source, count):
        if source not in self.watched:
            return
        events, self.unsent[source] = self.unsent[source][:count], self.unsent[source][count:]
        if events:
            self.apply(source, events, fresh=False)

    @rule(source=st.sampled_from(SOURCES))
    def open_watch(self, source):
        """A new watch begins with a listing, whatever the old one had not handed over."""
        self.watched.add(source)
        self.unsent[source] = []
        listing = [put(key, *found) for key, found in sorted(self.store[source].items())]
        self.apply(source, listing, fresh=True)

    def apply(self, source, events, *, fresh):
        batch = Batch(events, self.revision)
        changes, malformed = self.view.apply(source, batch, fresh=fresh, wall=WALL)
        self.take(changes)
        self.reported += [(each.key, each.revision) for each in malformed]

    @rule(source=st.sampled_from(SOURCES))
    def drop(self, source):
        self.watched.discard(source)
        self.unsent[source] = []
        self.take(self.view.drop(source, wall=WALL))

    @rule(origins=st.sets(st.sampled_from(["east", "west"])))
    def lose_origins(self, origins):
        self.stale = frozenset(origins)
        self.take(self.view.set_stale(origins, wall=WALL))

    @rule()
    def review(self):
        assert self.view.review(wall=WALL) == []

    def claims(self):
        """What the watches have handed over by now, computed from scratch."""
        found = {}
        for source in self.watched:
            held = dict(self.store[source])
            lagging = {event.kv.key for event in self.unsent[source]}
            for key, (value, _) in held.items():
                if key in lagging:
                    return None  # the model does not keep the past
                parsed = InstanceKey.parse(key)
                if parsed is None or parsed.to_bytes() != key or value in JUNK:
                    continue
                one = Instance.parse(
                    value,
                    service="orders",
                    id=parsed.instance,
                    namespace="default",
                    origin=source.origin,
                )
                found.setdefault(one.id, []).append((source, one))
            if lagging - held.keys():
                return None
        return found

    @invariant()
    def told_is_the_view(self):
        if hasattr(self, "view"):
            assert tuple(self.told[name] for name in sorted(self.told)) == self.view.instances
            assert self.view.sources == self.watched

    @invariant()
    def the_view_is_what_the_store_holds(self):
        claims = self.claims() if hasattr(self, "view") else None
        if claims is None:
            return
        wanted = {
            name: min(
                several,
                key=lambda each: rank(
                    each[1],
                    live=each[0].origin not in self.stale,
                    wall=WALL,
                    registered=each[0].area == "reg",
                ),
            )[1]
            for name, several in claims.items()
        }
        assert {each.id: each for each in self.view.instances} == wanted

    @invariant()
    def each_malformed_revision_is_reported_once_per_watch_life(self):
        if hasattr(self, "view"):
            assert self.view.settles_at(wall=WALL) is None or len(self.watched) > 1


TestViewModel = Model.TestCase
TestViewModel.settings = settings(max_examples=60, stateful_step_count=40)


HOME = SOURCES[0]


def test_a_malformed_key_is_told_once_and_again_when_it_changes() -> None:
    view, key = View(), key_of(HOME, "a")
    first = Batch([put(key, b"junk", 2)], 2)
    assert [m.key for m in view.apply(HOME, first, fresh=True, wall=WALL)[1]] == [key]
    assert view.apply(HOME, first, fresh=True, wall=WALL)[1] == []
    again = Batch([put(key, b"other junk", 3)], 3)
    assert [m.revision for m in view.apply(HOME, again, fresh=False, wall=WALL)[1]] == [3]
    gone = Batch([], 4)
    assert view.apply(HOME, gone, fresh=True, wall=WALL) == ([], [])
    assert len(view.apply(HOME, again, fresh=False, wall=WALL)[1]) == 1


def test_a_good_entry_that_turns_bad_counts_as_absent() -> None:
    view, key = View(), key_of(HOME, "a")
    view.apply(HOME, Batch([put(key, value_of(HOME, "a", 1.0, 0), 2)], 2), fresh=True, wall=WALL)
    changes, malformed = view.apply(HOME, Batch([put(key, b"{", 3)], 3), fresh=False, wall=WALL)
    assert [(c.kind, c.instance.id, c.revision) for c in changes] == [("removed", "a", 3)]
    assert len(malformed) == 1
    assert view.instances == ()


def test_a_clock_that_was_ahead_is_believed_when_it_is_caught_up() -> None:
    east, west = SOURCES[1:]
    view, soon = View(), int((WALL + 10) * 1000) << 48
    old = int((WALL - 10) * 1000) << 48
    for source, incarnation in ((east, old), (west, soon)):
        batch = Batch([put(key_of(source, "a"), value_of(source, "a", 1.0, incarnation), 2)], 2)
        view.apply(source, batch, fresh=True, wall=WALL)
    assert view.instances[0].origin == "east"
    at = view.settles_at(wall=WALL)
    assert at is not None
    assert WALL + 9 < at < WALL + 11
    assert [c.kind for c in view.review(wall=at + 0.001)] == ["updated"]
    assert view.instances[0].origin == "west"
    assert view.settles_at(wall=at + 0.001) is None


def test_revisions_may_go_back_after_a_restore() -> None:
    view = View()
    for revision in (100, 7):
        view.apply(HOME, Batch([], revision), fresh=True, wall=WALL)
        assert view.revision == revision


@given(st.permutations(range(6)))
def test_instances_are_in_the_order_of_their_ids(order) -> None:
    view = View()
    for revision, n in enumerate(order, 2):
        event = put(key_of(HOME, f"i{n}"), value_of(HOME, f"i{n}", 1.0, 0), revision)
        view.apply(HOME, Batch([event], revision), fresh=revision == 2, wall=WALL)
    for n in order[:3]:
        view.apply(HOME, Batch([delete(key_of(HOME, f"i{n}"), 99)], 99), fresh=False, wall=WALL)
    assert [each.id for each in view.instances] == sorted(f"i{n}" for n in order[3:])


def test_an_instance_that_comes_and_goes_in_one_batch_was_never_there() -> None:
    view, key = View(), key_of(HOME, "a")
    events = [put(key, value_of(HOME, "a", 1.0, 0), 2), delete(key, 3)]
    assert view.apply(HOME, Batch(events, 3), fresh=False, wall=WALL) == ([], [])


def test_of_three_claims_two_remain_contested() -> None:
    view = View()
    for source in SOURCES:
        event = put(key_of(source, "a"), value_of(source, "a", 1.0, 5), 2)
        view.apply(source, Batch([event], 2), fresh=True, wall=WALL)
    assert view.instances[0].origin == "east"  # the smallest name among equals
    assert [c.instance.origin for c in view.drop(SOURCES[1], wall=WALL)] == ["home"]
    assert [c.instance.origin for c in view.set_stale({"home"}, wall=WALL)] == ["west"]
    assert [c.instance.origin for c in view.drop(SOURCES[2], wall=WALL)] == ["home"]
    assert view.set_stale((), wall=WALL) == []


def test_a_new_watch_takes_away_what_it_does_not_list() -> None:
    view = View()
    events = [put(key_of(HOME, n), value_of(HOME, n, 1.0, 0), 2) for n in ("a", "b:1")]
    view.apply(HOME, Batch(events, 2), fresh=True, wall=WALL)
    changes, _ = view.apply(HOME, Batch(events[1:], 3), fresh=True, wall=WALL)
    assert [(c.kind, c.instance.id) for c in changes] == [("removed", "a")]
    assert [each.id for each in view.instances] == ["b:1"]
