"""Guards that follow a configuration without losing what they counted."""

import gc
import weakref

import attrs
import pytest

from hastack import config, events, ratelimit
from hastack.errors import ConfigError, InvalidArgument, RateLimited
from hastack.testing import ManualClock


class Store:
    """A source in memory."""

    name = "store"

    def __init__(self, **guards):
        self.put(**guards)

    def put(self, **guards):
        self.guards = guards

    def read(self):
        return config.Snapshot({"ratelimit": self.guards})

    def version(self):
        return 0


@attrs.frozen(kw_only=True)
class Shop:
    ratelimit: dict[str, config.GuardConfig] = attrs.field(factory=dict)
    name: str = "shop"


@attrs.frozen(kw_only=True)
class Whole:
    hastack: config.Config = attrs.field(factory=config.Config)


@pytest.fixture
def clock():
    return ManualClock(start=1000.0)


class Setup:
    """One followed entry, changed by hand."""

    def __init__(self, clock, entry, **options):
        self.store = Store(it=entry)
        self.watched = config.watch(self.store, env=None, clock=clock)
        self.watched.stop()
        if entry.get("kind") not in {"retry", "timeout"}:
            options.setdefault("clock", clock)
        self.guard = ratelimit.live(self.watched, "it", **options)

    def reload(self, entry):
        self.store.put(**({} if entry is None else {"it": entry}))
        with events.record(ratelimit.GuardReloaded, ratelimit.GuardReloadFailed) as seen:
            self.watched.reload()
        return seen


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"rate": "10/min"}, {"rate": "20/min", "burst": 20}),
        ({"kind": "fixed-window", "rate": "10/min"}, {"kind": "fixed-window", "rate": "20/min"}),
        (
            {"kind": "sliding-window-log", "rate": "10/min"},
            {"kind": "sliding-window-log", "rate": "20/min"},
        ),
        (
            {"kind": "sliding-window-counter", "rate": "10/min"},
            {"kind": "sliding-window-counter", "rate": "20/min"},
        ),
    ],
)
def test_a_rate_follows_and_what_was_taken_stays_taken(clock, before, after):
    it = Setup(clock, before, key=lambda user: user)
    assert it.guard.name == "it"
    guarded = it.guard(lambda user: user)
    for _ in range(5):
        guarded("ada")
    (event,) = it.reload(after)
    assert event.changed == (("burst", "rate") if "burst" in after else ("rate",))
    assert event.kept == ()
    left = it.guard.peek("ada").remaining
    assert left == (10 if "burst" in after else 15)  # a bucket keeps its share, a window its count
    for _ in range(left):
        guarded("ada")
    with pytest.raises(RateLimited):
        guarded("ada")


def test_a_leaky_bucket_and_a_concurrency_limit(clock):
    it = Setup(clock, {"kind": "leaky-bucket", "rate": "1/s", "queue": 5})
    it.reload({"kind": "leaky-bucket", "rate": "4/s", "queue": 9, "max_wait": 3})
    assert it.guard.rate == 4.0
    assert it.guard.guard._room._max_waiting == 9
    assert it.guard.guard._max_wait == 3.0

    pool = Setup(clock, {"kind": "concurrency-limit", "limit": 1})
    assert pool.guard.try_acquire()
    assert not pool.guard.try_acquire()
    pool.reload({"kind": "concurrency-limit", "limit": 2})
    assert pool.guard.in_flight() == 1
    assert pool.guard.try_acquire()


def test_a_breaker_keeps_its_window_and_takes_the_thresholds(clock):
    entry = {"kind": "circuit-breaker", "min_calls": 4, "failure_rate": 1.0, "window": 10}
    it = Setup(clock, entry)
    for _ in range(3):
        it.guard.try_acquire().failure()
    it.guard.try_acquire().success()
    assert it.guard.state.value == "closed"
    (event,) = it.reload({**entry, "failure_rate": 0.5, "window": 60})
    assert (event.changed, event.kept) == (("failure_rate",), ("window",))
    assert it.guard.snapshot().calls == 4
    it.guard.try_acquire().failure()
    assert it.guard.state.value == "open"
    it.reload({**entry, "failure_rate": 0.5, "window_calls": 20, "window": None})
    assert it.guard.state.value == "open"


def test_fewer_calls_are_enough_from_the_next_call_on(clock):
    entry = {"kind": "circuit-breaker", "min_calls": 100, "failure_rate": 0.5}
    it = Setup(clock, entry)
    for _ in range(3):
        it.guard.try_acquire().failure()
    it.reload({**entry, "min_calls": 2})
    it.guard.try_acquire().failure()
    assert it.guard.state.value == "open"


def test_an_adaptive_limit_stays_inside_its_new_bounds(clock):
    it = Setup(clock, {"kind": "adaptive-limit", "initial": 20})
    assert it.guard.try_acquire()
    (event,) = it.reload({"kind": "adaptive-limit", "initial": 5, "max_limit": 8})
    assert (event.changed, event.kept) == (("max_limit",), ("initial",))
    assert (it.guard.limit, it.guard.inflight) == (8, 1)
    it.reload({"kind": "adaptive-limit", "initial": 20, "min_limit": 15})
    assert it.guard.limit == 15


def test_a_timeout_and_a_retry_are_exchanged_behind_what_they_decorate(clock):
    it = Setup(clock, {"kind": "timeout", "seconds": 5})

    @it.guard
    def left():
        from hastack import context

        return context.current().remaining()

    assert 4.0 < left() <= 5.0
    it.reload({"kind": "timeout", "seconds": 50})
    assert 49.0 < left() <= 50.0
    with it.guard:
        pass

    again = Setup(clock, {"kind": "retry", "attempts": 2, "base": 0, "budget_ratio": 0.5})
    tries = []

    @again.guard
    def fail():
        tries.append(1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    assert len(tries) == 2
    budget = again.guard.budget
    left_before = budget.remaining
    entry = {"kind": "retry", "attempts": 4, "base": 0, "budget_ratio": 0.5}
    again.reload({**entry, "budget_min_per_second": 20})
    assert again.guard.budget is budget
    assert budget.remaining == left_before + 100
    with pytest.raises(ConnectionError):
        fail()
    assert len(tries) == 6
    again.reload({"kind": "retry", "attempts": 4, "base": 0})
    assert again.guard.budget is None


@pytest.mark.parametrize("kind", ["timeout", "retry"])
def test_a_coroutine_behind_an_exchanged_policy(clock, kind):
    import asyncio

    entry = {"timeout": {"seconds": 5}, "retry": {"attempts": 1, "base": 0}}[kind]
    it = Setup(clock, {"kind": kind, **entry})
    tries = []

    @it.guard
    async def fail():
        tries.append(1)
        raise ConnectionError

    async def main():
        with pytest.raises(ConnectionError):
            await fail()
        more = {"timeout": {"seconds": 50}, "retry": {"attempts": 3, "base": 0}}[kind]
        it.reload({"kind": kind, **more})
        with pytest.raises(ConnectionError):
            await fail()
        if kind == "timeout":
            async with it.guard:
                pass

    asyncio.run(main())
    assert len(tries) == {"timeout": 2, "retry": 4}[kind]


def test_the_shadow_comes_and_goes(clock):
    it = Setup(clock, {"rate": "1/min", "shadow": True})
    guarded = it.guard(lambda: 1)
    assert [guarded() for _ in range(3)] == [1, 1, 1]
    assert it.guard.refusals == 2
    it.reload({"rate": "1/min"})
    with pytest.raises(RateLimited):
        guarded()
    it.reload({"rate": "1/min", "shadow": True})
    assert guarded() == 1


def test_another_kind_is_refused_and_said_once(clock, caplog):
    it = Setup(clock, {"rate": "1/min"})
    it.guard.try_acquire()
    (event,) = it.reload({"kind": "concurrency-limit", "limit": 100})
    assert (event.name, event.reason) == ("it", "kind changed")
    assert "concurrency-limit" in event.detail
    assert "token-bucket" in caplog.text
    assert not it.guard.try_acquire()
    assert it.reload({"kind": "concurrency-limit", "limit": 100}) == []
    (event,) = it.reload(None)
    assert event.reason == "removed"
    it.store.put(other={"rate": 1})
    with events.record(ratelimit.GuardReloadFailed) as seen:
        it.watched.reload()
    assert seen == []
    assert it.reload({"rate": "1/min"}) == []  # what it had all the time
    assert [type(e).__name__ for e in it.reload({"rate": "2/min"})] == ["GuardReloaded"]


def test_what_a_limiter_refuses_changes_nothing(clock):
    it = Setup(clock, {"kind": "sliding-window-counter", "rate": "10/10s", "slot": 5})
    (event,) = it.reload({"kind": "sliding-window-counter", "rate": "10/s", "slot": 5})
    assert event.reason == "refused"
    assert "slot" in event.detail
    assert it.guard.limit == 10.0
    assert it.guard.window == 10.0


def test_what_needs_a_restart_is_said(clock):
    it = Setup(clock, {"rate": "1/min"})
    (event,) = it.reload({"rate": "2/min", "max_keys": 5, "max_wait": 3})
    assert (event.changed, event.kept) == (("rate",), ("max_keys", "max_wait"))
    assert it.guard.guard._max_wait == 0.0


def test_a_mistake_in_the_file_leaves_everything(clock):
    it = Setup(clock, {"rate": "1/min"})
    it.store.put(it={"rate": "nonsense"})
    with pytest.raises(ConfigError):
        it.watched.reload()
    assert it.guard.try_acquire()
    assert not it.guard.try_acquire()


def test_a_guard_that_is_dropped_is_followed_no_more(clock):
    it = Setup(clock, {"rate": "1/min"})
    gone = weakref.ref(it.guard)
    del it.guard
    gc.collect()
    assert gone() is None
    assert it.reload({"rate": "2/min"}) == []
    assert it.watched._subscribers == ()


def test_where_the_entry_is(clock):
    store = Store(api={"rate": "3/min"})
    shop = config.watch(store, into=Shop, env=None)
    guard = ratelimit.live(shop, lambda shop: shop.ratelimit["api"], name="api", clock=clock)
    assert guard.peek().remaining == 3
    with pytest.raises(InvalidArgument, match="entry"):
        ratelimit.live(shop, "api")
    with pytest.raises(InvalidArgument, match="name"):
        ratelimit.live(shop, lambda shop: shop.ratelimit["api"])
    with pytest.raises(InvalidArgument, match="entry"):
        ratelimit.live(shop, lambda shop: shop.ratelimit["other"], name="other")
    with pytest.raises(InvalidArgument, match="watched"):
        ratelimit.live(shop.current, "api")
    shop.stop()
    whole = config.watch(
        into=Whole, env=None, override={"hastack": {"ratelimit": {"api": {"rate": 7}}}}
    )
    assert ratelimit.live(whole, "api", clock=clock).peek().remaining == 7


def test_a_budget_changes_by_halves():
    budget = ratelimit.RetryBudget(0.5, min_per_second=1.0)
    budget.update(ratio=1.0)
    assert budget.remaining == 10
    budget.update(min_per_second=2.0)
    assert budget.remaining == 20
    budget.count_call()
    assert budget.remaining == 21
    with pytest.raises(InvalidArgument, match="ratio"):
        budget.update(ratio=2.0)
