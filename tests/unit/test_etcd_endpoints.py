"""Which endpoint is asked, which is left alone, when it is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hastack.discovery.etcd._endpoints import Endpoints

THREE = ("a:1", "b:1", "c:1")


def test_home_takes_every_call_as_long_as_it_is_well():
    endpoints = Endpoints(THREE, home=1)
    assert [endpoints.first() for _ in range(3)] == ["b:1"] * 3
    assert endpoints.order() == ["b:1", "c:1", "a:1"]
    assert endpoints.all_well
    assert Endpoints(THREE, home=7).first() == "b:1"


def test_the_next_one_takes_over_until_a_probe_succeeds():
    endpoints = Endpoints(THREE)
    endpoints.failed("a:1", 10.0)
    assert not endpoints.is_well("a:1")
    assert endpoints.is_well("b:1")
    assert not endpoints.all_well
    assert endpoints.order() == ["b:1", "c:1", "a:1"]
    assert endpoints.to_probe(10.4) is None
    assert endpoints.first() == "b:1"
    assert endpoints.to_probe(10.5) == "a:1"
    assert endpoints.to_probe(10.5) is None, "one asks, the others go on"
    assert endpoints.first() == "b:1"
    endpoints.succeeded("a:1")
    assert endpoints.first() == "a:1"
    assert endpoints.all_well


def test_when_all_failed_the_longest_absent_is_tried_first():
    endpoints = Endpoints(THREE)
    for now, address in ((1.0, "b:1"), (1.1, "a:1"), (1.2, "c:1"), (1.3, "b:1")):
        endpoints.failed(address, now)
    assert endpoints.order() == ["a:1", "c:1", "b:1"]
    endpoints.succeeded("c:1")
    assert endpoints.first() == "c:1"


def test_the_pause_doubles_up_to_a_quarter_of_a_minute():
    endpoints = Endpoints(("a:1",))
    now, pauses = 0.0, []
    for _ in range(7):
        endpoints.failed("a:1", now)
        low, high = now, now + 100.0
        while high - low > 1e-3:
            middle = (low + high) / 2
            twin = Endpoints(("a:1",))
            twin._down = dict(endpoints._down)
            low, high = (low, middle) if twin.to_probe(middle) else (middle, high)
        pauses.append(round(high - now, 2))
        now = high
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


steps = st.lists(
    st.tuples(
        st.sampled_from(["failed", "succeeded", "probe"]),
        st.integers(0, 3),
        st.floats(0.0, 20.0),
    ),
    max_size=40,
)


@given(count=st.integers(1, 4), home=st.integers(0, 9), steps=steps)
def test_everybody_is_in_the_order_once_and_the_well_come_first(count, home, steps):
    addresses = [f"host{n}:1" for n in range(count)]
    endpoints = Endpoints(addresses, home=home)
    well = dict.fromkeys(addresses, True)
    now = 0.0
    for step, number, pause in steps:
        now += pause
        address = addresses[number % count]
        if step == "failed":
            endpoints.failed(address, now)
            well[address] = False
        elif step == "succeeded":
            endpoints.succeeded(address)
            well[address] = True
        else:
            probed = endpoints.to_probe(now)
            assert probed is None or not well[probed]
        order = endpoints.order()
        assert sorted(order) == sorted(addresses)
        flags = [well[each] for each in order]
        assert flags == sorted(flags, reverse=True)
        assert endpoints.first() == order[0]
        assert endpoints.all_well is all(flags)
    # Whoever is down is asked again sooner or later.
    found = {endpoints.to_probe(now + 16.0 + n * 1e-6) for n in range(count)}
    assert found - {None} == {each for each in addresses if not well[each]}
