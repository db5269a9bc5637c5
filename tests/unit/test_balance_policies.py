"""Choosers: who gets the next call."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack.discovery import Instance
from hastack.discovery._endpoint import Endpoint, merged, open_share
from hastack.discovery._outlier import may_eject
from hastack.discovery._pick_hash import as_key
from hastack.discovery.balance import (
    ConsistentHash,
    LeastLoaded,
    LocalityFirst,
    RoundRobin,
    WeightedRoundRobin,
)
from hastack.errors import InvalidArgument

NOBODY = frozenset()
POLICIES = [
    RoundRobin(),
    WeightedRoundRobin(),
    LeastLoaded(),
    ConsistentHash(points=20),
    ConsistentHash(points=20, spread=None),
    LocalityFirst(zone="a"),
    LocalityFirst(zone="a", within=ConsistentHash(points=20)),
]


def instance(number, **options):
    return Instance(service="s", id=f"i{number}", address=f"10.0.0.{number}:80", **options)


def endpoints(count=0, *, weights=(), zones=()):
    size = count or len(weights) or len(zones)
    return [
        Endpoint(
            instance(
                n,
                weight=weights[n] if weights else 1.0,
                zone=zones[n] if zones else "",
            )
        )
        for n in range(size)
    ]


def names(chooser, calls, key=None):
    return [chooser.choose(key, NOBODY).instance.id for _ in range(calls)]


def test_round_robin_takes_turns_whatever_the_weights():
    seen = names(RoundRobin().chooser(endpoints(weights=[1, 5, 9]), lambda: 0.5), 6)
    assert seen == ["i1", "i2", "i0", "i1", "i2", "i0"]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 2**32))
def test_weighted_turns_follow_the_weights_in_every_stretch(weights, seed):
    members = endpoints(weights=weights)
    chooser = WeightedRoundRobin().chooser(members, Random(seed).random)
    rounds = sum(weights)
    seen = Counter(names(chooser, 3 * rounds))
    for number, weight in enumerate(weights):
        assert abs(seen[f"i{number}"] - 3 * weight) <= 1


def test_one_that_was_passed_over_does_not_catch_up_in_a_burst():
    members = endpoints(weights=[1, 1])
    chooser = WeightedRoundRobin().chooser(members, lambda: 0.0)
    members[0].ejected = True
    assert set(names(chooser, 50)) == {"i1"}
    members[0].ejected = False
    back = Counter(names(chooser, 20))
    assert abs(back["i0"] - back["i1"]) <= 2


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [1, 1, 1, 4]])
def test_least_loaded_evens_the_load_out_for_the_weight(weights):
    members = endpoints(weights=weights)
    chooser = LeastLoaded().chooser(members, Random(3).random)
    for _ in range(700):
        chooser.choose(None, NOBODY).in_flight += 1
    loads = [member.in_flight / member.instance.weight for member in members]
    assert max(loads) <= 1.1 * min(loads) + 2


def test_rounding_at_the_very_end_chooses_somebody():
    members = endpoints(weights=[0.1, 0.2])
    assert LeastLoaded().chooser(members, lambda: 1.0).choose(None, NOBODY) in members


def test_a_key_stays_and_only_the_keys_of_one_that_left_move():
    members = endpoints(10)
    policy = ConsistentHash()
    before = policy.chooser(members, Random(1).random)
    after = policy.chooser(members[:-1], Random(2).random)
    moved = 0
    for number in range(1000):
        key = b"%d" % number
        old, new = before.choose(key, NOBODY), after.choose(key, NOBODY)
        assert before.choose(key, NOBODY) is old
        if old is members[-1]:
            moved += 1
        else:
            assert new is old
    assert 50 < moved < 200


def test_keys_spread_by_weight_and_calls_without_a_key_at_random():
    members = endpoints(weights=[1, 3])
    chooser = ConsistentHash(points=200).chooser(members, Random(1).random)
    keys = Counter(chooser.choose(b"%d" % n, NOBODY).instance.id for n in range(4000))
    assert keys["i1"] / keys["i0"] == pytest.approx(3.0, rel=0.35)
    assert set(names(chooser, 100)) == {"i0", "i1"}


@given(
    st.lists(st.floats(0.1, 10), min_size=1, max_size=8),
    st.lists(st.integers(0, 3), min_size=1, max_size=200),
    st.floats(1.01, 3.0),
)
def test_no_endpoint_takes_more_than_its_spread(weights, keys, spread):
    members = endpoints(weights=weights)
    chooser = ConsistentHash(points=10, spread=spread).chooser(members, lambda: 0.0)
    for running, key in enumerate(keys):
        chosen = chooser.choose(b"%d" % key, NOBODY)
        chosen.in_flight += 1
        fair = (running + 1) * chosen.instance.weight / sum(weights)
        assert chosen.in_flight <= spread * fair + 1


def test_when_all_that_are_left_are_full_a_key_goes_where_it_belongs():
    members = endpoints(2)
    chooser = ConsistentHash(spread=1.01).chooser(members, lambda: 0.0)
    home = chooser.choose(b"k", NOBODY)
    other = next(member for member in members if member is not home)
    other.ejected = True
    for _ in range(5):
        assert chooser.choose(b"k", NOBODY) is home
        home.in_flight += 1


def test_a_zone_keeps_its_calls_until_too_many_of_it_fail():
    members = endpoints(zones=["a"] * 10 + ["b"] * 10)
    random = Random(5)
    chooser = LocalityFirst(zone="a").chooser(members, random.random)

    def share():
        chooser.refresh()
        zones = [chooser.choose(None, NOBODY).instance.zone for _ in range(2000)]
        return zones.count("a") / len(zones)

    assert share() == 1.0
    for member in members[:2]:
        member.ejected = True
    assert share() == 1.0
    for member in members[:5]:
        member.ejected = True
    assert share() == pytest.approx(0.7, abs=0.05)
    for member in members[:10]:
        member.ejected = True
    assert share() == 0.0


def test_a_zone_without_endpoints_is_no_zone():
    assert names(LocalityFirst(zone="x", within=RoundRobin()).chooser(endpoints(3), lambda: 0.0), 3)
    alone = LocalityFirst(zone="a", within=RoundRobin())
    assert set(names(alone.chooser(endpoints(zones=["a", "a"]), lambda: 0.0), 4)) == {"i0", "i1"}


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@given(data=st.data())
def test_ejected_and_avoided_are_never_chosen_and_the_rest_always_can_be(policy, data):
    size = data.draw(st.integers(1, 7))
    members = endpoints(
        weights=data.draw(st.lists(st.floats(0.01, 50), min_size=size, max_size=size)),
        zones=data.draw(st.lists(st.sampled_from("ab"), min_size=size, max_size=size)),
    )
    chooser = policy.chooser(members, Random(data.draw(st.integers(0, 99))).random)
    for _ in range(data.draw(st.integers(1, 12))):
        for member in members:
            member.ejected = data.draw(st.booleans())
            member.in_flight = data.draw(st.integers(0, 5))
        chooser.refresh()
        avoid = frozenset(data.draw(st.sets(st.sampled_from([m.instance.id for m in members]))))
        open_ = [m for m in members if not m.ejected and m.instance.id not in avoid]
        key = data.draw(st.none() | st.binary(max_size=3))
        chosen = chooser.choose(key, avoid)
        assert chosen in open_ if open_ else chosen is None


def test_what_is_known_of_an_instance_stays_until_it_moves_or_begins_another_life():
    first = merged(
        {}, [instance(1), instance(2), instance(3, weight=0.0), instance(4, draining=True)]
    )
    assert set(first) == {"i1", "i2"}
    first["i1"].in_flight = 3
    heavier = merged(first, [instance(1, weight=2.0)])
    assert heavier["i1"] is first["i1"]
    assert heavier["i1"].instance.weight == 2.0
    assert merged(first, [instance(1, incarnation=7)])["i1"] is not first["i1"]
    moved = Instance(service="s", id="i1", address="elsewhere:1")
    assert merged(first, [moved])["i1"].in_flight == 0
    assert "10.0.0.1:80, 3 in flight" in repr(first["i1"])
    first["i1"].ejected = True
    assert "ejected" in repr(first["i1"])


def test_the_open_share_is_of_the_weight():
    members = endpoints(weights=[1, 3])
    assert open_share(members) == 1.0
    members[1].ejected = True
    assert open_share(members) == 0.25
    assert open_share([]) == 0.0


@given(st.integers(0, 12), st.floats(0.01, 1.0))
def test_ejection_stops_at_its_share_and_before_the_last(size, share):
    members = endpoints(size) if size else []
    while may_eject(members, share):
        next(member for member in members if not member.ejected).ejected = True
    out = sum(member.ejected for member in members)
    assert out == max(0, min(size - 1, max(1, int(size * share))))


def test_keys_are_the_same_in_every_process():
    assert [as_key(key) for key in (b"a", "é", 7)] == [b"a", "é".encode(), b"7"]
    for key in (True, 1.5, None, ("a",)):
        with pytest.raises(InvalidArgument, match="key="):
            as_key(key)


@pytest.mark.parametrize(
    ("make", "parameter"),
    [
        (lambda: ConsistentHash(points=0), "points"),
        (lambda: ConsistentHash(spread=1.0), "spread"),
        (lambda: LocalityFirst(zone=""), "zone"),
        (lambda: LocalityFirst(zone="a", overprovisioning=0.9), "overprovisioning"),
    ],
)
def test_bad_settings_are_named(make, parameter):
    with pytest.raises(InvalidArgument) as caught:
        make()
    assert caught.value.parameter == parameter
