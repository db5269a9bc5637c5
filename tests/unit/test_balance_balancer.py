"""The balancer: membership, outcomes, ejection."""

import asyncio
import gc
import os
import threading
from collections import Counter
from functools import partial

import pytest

from hastack import events
from hastack.discovery import Instance
from hastack.discovery.balance import (
    Balancer,
    ConsistentHash,
    EndpointEjected,
    EndpointReturned,
    Outlier,
    RoundRobin,
)
from hastack.errors import InvalidArgument, NoInstance
from hastack.ratelimit import BreakerState, CircuitBreaker
from hastack.testing import ManualClock


def instances(count, **options):
    return [Instance(service="s", id=f"i{n}", address=f"h{n}:80", **options) for n in range(count)]


def make(count=3, *, clock=None, max_ejected=0.5, **options):
    clock = clock or ManualClock(start=0.0)
    breaker = partial(_breaker, clock=clock)
    options.setdefault("outlier", Outlier(breaker=breaker, max_ejected=max_ejected))
    options.setdefault("policy", RoundRobin())
    balancer = Balancer("s", clock=clock, rng=lambda: 0.0, **options)
    balancer.update(instances(count))
    return balancer, clock


def _breaker(name, clock):
    return CircuitBreaker(
        name=name, window_calls=3, min_calls=3, open_for=5.0, jitter=0.0, clock=clock
    )


def call(balancer, *, failing=(), **options):
    """One call; its outcome depends on where it went."""
    pick = balancer.pick(**options)
    pick.done(ConnectionError() if pick.instance.id in failing else None)
    return pick.instance.id


def test_calls_in_flight_are_counted_until_they_end_however_they_end():
    balancer, _ = make(1)
    (endpoint,) = balancer.endpoints
    with balancer.pick():
        assert endpoint.in_flight == 1
        with pytest.raises(KeyError), balancer.pick():
            assert endpoint.in_flight == 2
            raise KeyError

    async def main():
        async with balancer.pick() as pick:
            assert endpoint.in_flight == 1
            pick.done()
            pick.done(ValueError())
            pick.release()
            assert endpoint.in_flight == 0

    asyncio.run(main())
    assert repr(balancer.pick()) == "<Pick s/i0 at h0:80>"  # forgotten
    assert repr(balancer).startswith("<Balancer 's', 1 endpoints, RoundRobin")
    gc.collect()
    assert endpoint.in_flight == 0


def test_nobody_to_call():
    balancer, _ = make(0)
    with pytest.raises(NoInstance, match="s: no instance"):
        balancer.pick()
    balancer.update(instances(2, draining=True))
    with pytest.raises(NoInstance):
        balancer.pick()


def test_an_instance_that_fails_is_set_aside_probed_and_taken_back():
    balancer, clock = make(3)
    with events.record(EndpointEjected) as seen:
        for _ in range(9):
            call(balancer, failing={"i1"})
        assert [(type(e), e.instance, e.ejected, e.known) for e in seen] == [
            (EndpointEjected, "i1", 1, 3)
        ]
        assert Counter(call(balancer) for _ in range(10)) == {"i0": 5, "i2": 5}
        clock.advance(5.0)
        # Half-open: one probe at a time, others pass it by.
        probe = next(p for p in (balancer.pick() for _ in range(3)) if p.instance.id == "i1")
        assert "i1" not in {call(balancer) for _ in range(6)}
        probe.done()
        assert Counter(call(balancer) for _ in range(9)) == {"i0": 3, "i1": 3, "i2": 3}
        assert type(seen[-1]) is EndpointReturned


def test_a_failed_probe_keeps_it_out_for_longer():
    balancer, clock = make(3)
    for _ in range(9):
        call(balancer, failing={"i1"})
    clock.advance(5.0)
    assert "i1" in {call(balancer, failing={"i1"}) for _ in range(3)}
    clock.advance(5.0)
    assert "i1" not in {call(balancer) for _ in range(6)}
    clock.advance(5.0)
    assert "i1" in {call(balancer) for _ in range(3)}


def test_when_everything_fails_calls_are_spread_and_none_is_refused():
    balancer, _ = make(4)
    everybody = {f"i{n}" for n in range(4)}
    for _ in range(40):
        call(balancer, failing=everybody)
    assert sum(endpoint.ejected for endpoint in balancer.endpoints) == 2
    assert len({call(balancer, failing=everybody) for _ in range(8)}) == 2


def test_a_single_instance_is_never_ejected():
    balancer, _ = make(1)
    for _ in range(20):
        assert call(balancer, failing={"i0"}) == "i0"


def test_one_that_is_avoided_is_taken_only_when_there_is_no_other():
    balancer, _ = make(2)
    assert {balancer.pick(avoid=["i0"]).instance.id for _ in range(4)} == {"i1"}
    assert balancer.pick(avoid=["i0", "i1"]).instance.id in {"i0", "i1"}


def test_a_key_stays_with_its_instance_and_bad_keys_are_named():
    balancer, _ = make(5, policy=ConsistentHash())
    assert len({balancer.pick(key="ada").instance.id for _ in range(9)}) == 1
    with pytest.raises(InvalidArgument, match="key="):
        balancer.pick(key=1.5)


def test_what_was_learned_stays_over_an_update_and_goes_with_the_instance():
    balancer, _ = make(3)
    for _ in range(9):
        call(balancer, failing={"i1"})
    balancer.update(instances(3, weight=2.0))
    assert "i1" not in {call(balancer) for _ in range(6)}
    balancer.update([])
    balancer.update(instances(3))
    assert "i1" in {call(balancer) for _ in range(6)}


def test_breakers_forced_from_outside_count_too():
    made = {}

    def breaker(name):
        made[name] = CircuitBreaker(name=name)
        return made[name]

    balancer, _ = make(2, outlier=Outlier(breaker=breaker))
    for _ in range(2):
        call(balancer)
    made["s/i0"].force_open()
    assert {call(balancer) for _ in range(4)} == {"i1"}
    made["s/i0"].enable()
    assert {call(balancer) for _ in range(4)} == {"i0", "i1"}


def test_breakers_of_the_same_name_elsewhere_do_not():
    balancer, clock = make(2)
    for _ in range(2):
        call(balancer)
    stranger = CircuitBreaker(name="s/i0")
    stranger.force_open()
    assert stranger.state is BreakerState.FORCED_OPEN
    CircuitBreaker(name="nothing").force_open()
    assert {call(balancer) for _ in range(4)} == {"i0", "i1"}


def test_without_outlier_nothing_is_counted():
    balancer, _ = make(2, outlier=None)
    for _ in range(30):
        call(balancer, failing={"i0"})
    assert {call(balancer) for _ in range(2)} == {"i0", "i1"}


def test_following_and_closing():
    class Feed:
        def __init__(self):
            self.callbacks = []

        def subscribe(self, service, callback):
            assert service == "s"
            callback(instances(1))
            self.callbacks.append(callback)
            return lambda: self.callbacks.remove(callback)

    feed = Feed()
    with Balancer("s").follow(feed) as balancer:
        assert balancer.pick().address == "h0:80"
        with pytest.raises(InvalidArgument, match="feed="):
            balancer.follow(feed)
        feed.callbacks[0](instances(2))
        assert len(balancer.endpoints) == 2
    assert not feed.callbacks
    assert balancer.pick()


def test_a_forgotten_balancer_leaves_no_subscription():
    before = len(events._subscriptions)
    balancer, _ = make(2)
    assert len(events._subscriptions) == before + 1
    del balancer
    gc.collect()
    assert len(events._subscriptions) == before


def test_threads_lose_no_call():
    balancer, _ = make(4)
    barrier = threading.Barrier(5)

    def work(seed):
        barrier.wait(10)
        for n in range(400):
            call(balancer, failing={f"i{(seed + n) % 4}"} if n % 3 else ())

    def change():
        barrier.wait(10)
        for n in range(200):
            balancer.update(instances(2 + n % 3))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    threads.append(threading.Thread(target=change))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert [endpoint.in_flight for endpoint in balancer.endpoints] == [0] * (2 + 199 % 3)


def test_a_forked_child_begins_without_the_calls_of_its_parent():
    balancer, _ = make(2)
    held = [balancer.pick() for _ in range(4)]
    pid = os.fork()
    if pid == 0:
        ok = all(endpoint.in_flight == 0 for endpoint in balancer.endpoints)
        held.pop().done()
        ok = ok and all(endpoint.in_flight == 0 for endpoint in balancer.endpoints)
        os._exit(0 if ok and call(balancer) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert sum(endpoint.in_flight for endpoint in balancer.endpoints) == 4


@pytest.mark.parametrize(
    ("make_it", "parameter"),
    [
        (lambda: Balancer(""), "service"),
        (lambda: Outlier(max_ejected=0.0), "max_ejected"),
        (lambda: Outlier(max_ejected=1.5), "max_ejected"),
    ],
)
def test_bad_settings_are_named(make_it, parameter):
    with pytest.raises(InvalidArgument) as caught:
        make_it()
    assert caught.value.parameter == parameter
