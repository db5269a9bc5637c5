"""Hybrid logical clocks and the choice between clusters: order, and nothing but order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack.discovery import Instance
from hastack.discovery._hlc import HybridClock, ahead, believed, parts
from hastack.discovery._merge import Claim, choose, join, rank, settles_at
from hastack.errors import InvalidArgument

WALL = 1_700_000_000.0
ORIGINS = ["a", "b", "c"]
walls = st.floats(WALL - 100.0, WALL + 100.0)
# Some in the past, some ahead of the reader, some of no clock at all.
incarnations = st.one_of(
    st.sampled_from([0, 1, -5]),
    st.builds(
        lambda wall, node: HybridClock(node=node).tick(wall),
        st.sampled_from([WALL - 5.0, WALL, WALL + 0.4, WALL + 0.6, WALL + 90.0]),
        st.integers(0, 2),
    ),
)


def instances(origin: str) -> st.SearchStrategy[Instance]:
    return st.builds(
        Instance,
        service=st.just("db"),
        id=st.just("1"),
        address=st.sampled_from(["x:1", "y:1"]),
        origin=st.just(origin),
        home=st.sampled_from(["", *ORIGINS]),
        incarnation=incarnations,
    )


def claims_of(origin: str) -> st.SearchStrategy[Claim]:
    return st.builds(Claim, st.integers(1, 4), st.none() | instances(origin))


claim_maps = st.fixed_dictionaries({}, optional={each: claims_of(each) for each in ORIGINS})


# The clock


@given(st.lists(st.tuples(walls, st.none() | walls), max_size=50))
def test_readings_only_grow_whatever_the_clocks_do(steps):
    clock, other = HybridClock(node=1), HybridClock(node=2)
    last = -1
    for wall, theirs in steps:
        if theirs is not None:
            seen = other.tick(theirs)
            believable = ahead(seen, wall) <= 0.5
            assert clock.observe(seen, wall) is believable
            if believable:
                last = max(last, seen)
        reading = clock.tick(wall)
        assert reading >> 32 > last >> 32
        assert parts(reading)[2] == 1
        last = reading


@given(walls, st.integers(1, 70_000))
def test_a_full_counter_carries_into_the_milliseconds(wall, extra):
    clock = HybridClock()
    clock._last = (int(wall * 1000) << 16) + 0xFFFF - 1
    readings = [clock.tick(wall) for _ in range(3)]
    assert readings == sorted(set(readings))
    assert parts(readings[-1])[:2] == (int(wall * 1000) + 1, 1)


def test_broken_wall_clocks_are_clamped():
    clock = HybridClock(node=3)
    assert parts(clock.tick(-1.0)) == (0, 0, 3)
    assert parts(clock.tick(1e300))[0] == (1 << 48) - 1


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [({"node": -1}, "node"), ({"node": 1 << 32}, "node"), ({"max_ahead": -0.1}, "max_ahead")],
)
def test_bad_arguments_are_named(arguments, parameter):
    with pytest.raises(InvalidArgument) as caught:
        HybridClock(**arguments)
    assert caught.value.parameter == parameter


# The merge


@given(claim_maps, claim_maps)
def test_join_is_commutative(left, right):
    assert join(left, right) == join(right, left)


@given(claim_maps, claim_maps, claim_maps)
def test_join_is_associative(first, second, third):
    assert join(join(first, second), third) == join(first, join(second, third))


@given(claim_maps, claim_maps)
def test_join_is_idempotent_and_only_grows(left, right):
    both = join(left, right)
    assert join(both, both) == join(both, right) == both
    for origin, claim in both.items():
        assert claim.revision == max(
            side[origin].revision for side in (left, right) if origin in side
        )


@given(st.lists(claim_maps, max_size=5), st.randoms(), st.sets(st.sampled_from(ORIGINS)))
def test_all_who_heard_the_same_choose_the_same(heard, random, stale):
    again = heard + [each for each in heard if random.random() < 0.5]
    random.shuffle(again)
    one: dict = {}
    two: dict = {}
    for each in heard:
        one = join(one, each)
    for each in again:
        two = join(two, each)
    assert choose(one, stale=stale, wall=WALL) == choose(two, stale=stale, wall=WALL)


@given(claim_maps, st.sets(st.sampled_from(ORIGINS)))
def test_the_choice_keeps_the_documented_order(claims, stale):
    best = choose(claims, stale=stale, wall=WALL)
    standing = [claim.instance for claim in claims.values() if claim.instance is not None]
    if best is None:
        assert not standing
        return
    assert best in standing
    if best.origin in stale:
        assert all(each.origin in stale for each in standing)
    same = [each for each in standing if (each.origin in stale) == (best.origin in stale)]
    homes = [each for each in same if each.home == each.origin]
    if homes:
        assert best in homes
        same = homes

    def counted(each: Instance) -> int:
        return each.incarnation if believed(each.incarnation, WALL) else 0

    assert all(counted(each) <= counted(best) for each in same)
    equals = [each for each in same if counted(each) == counted(best)]
    assert best.origin == min(each.origin for each in equals)


@given(instances("a"), instances("a"), instances("b"), instances("c"))
def test_ranks_are_a_total_order(one, other, second, third):
    ranks = [rank(each, live=True, wall=WALL) for each in (one, second, third)]
    assert len(set(ranks)) == 3  # different origins never tie
    here = rank(one, live=True, wall=WALL, registered=True)
    assert here < ranks[0]


@given(st.lists(instances("a") | instances("b"), max_size=4))
def test_a_choice_settles_when_the_clock_has_been_caught_up(several):
    wall = WALL
    seen = 0
    while (later := settles_at(several, wall=wall)) is not None:
        assert later > wall
        assert not all(believed(each.incarnation, wall) for each in several)
        wall = later
        seen += 1
    assert seen <= len(several)
    assert all(believed(each.incarnation, wall) for each in several if each.incarnation >= 0)


def test_a_clock_that_runs_ahead_does_not_win():
    honest = Instance(
        service="db", id="1", address="a:1", origin="z", incarnation=HybridClock().tick(WALL)
    )
    ahead_of_time = Instance(
        service="db", id="1", address="b:1", origin="y", incarnation=HybridClock().tick(WALL + 60)
    )
    claims = {"z": Claim(1, honest), "y": Claim(1, ahead_of_time)}
    assert choose(claims, wall=WALL) is honest
    assert choose(claims, wall=WALL + 60) is ahead_of_time
    assert choose({}, wall=WALL) is None
