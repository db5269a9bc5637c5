"""Mistakes that a newcomer makes, and what is said about them."""

import asyncio
import math
import pickle
import time

import pytest

from hastack import config, context, errors, health, lifecycle, ratelimit
from hastack.errors import InvalidArgument, RateLimited
from hastack.ratelimit._quota import to_quota


@pytest.mark.parametrize("timeout", [-1, math.nan, "1"])
def test_a_bad_timeout_is_one_also_when_nobody_has_to_wait(timeout):
    bucket = ratelimit.TokenBucket("5/s")
    with pytest.raises(InvalidArgument, match="timeout"):
        bucket.acquire(timeout=timeout)
    waiting = bucket.acquire_async(timeout=timeout)
    with pytest.raises(InvalidArgument, match="timeout"):
        waiting.send(None)
    assert bucket.peek().remaining == 5  # and nothing was taken


@pytest.mark.parametrize("name", ["", 5])
def test_names_of_limiters(name):
    for make in (
        lambda: ratelimit.TokenBucket("5/s", name=name),
        lambda: ratelimit.FixedWindow("5/s", name=name),
        lambda: ratelimit.LeakyBucket("5/s", name=name),
        lambda: ratelimit.ConcurrencyLimit(5, name=name),
        lambda: ratelimit.CircuitBreaker(name=name),
        lambda: ratelimit.AdaptiveLimit(name=name),
    ):
        with pytest.raises(InvalidArgument, match="name"):
            make()
    assert repr(ratelimit.TokenBucket("5/s", name="api")) == "<TokenBucket 'api'>"


@pytest.mark.parametrize("rate", [None, [], object()])
def test_what_a_quota_may_be(rate):
    with pytest.raises(InvalidArgument, match=r"rate=.*100/s.*permits per second"):
        to_quota("rate", rate)


def test_long_waits_are_readable():
    assert str(RateLimited("api", retry_after=3599.6)).endswith("retry after 3600 s")
    assert str(RateLimited("api", retry_after=0.1234)).endswith("retry after 0.123 s")
    assert str(RateLimited("api", retry_after=1e15)).endswith("retry after 1e+15 s")


def test_retry_jitter_is_yes_or_no():
    with pytest.raises(InvalidArgument, match="jitter"):
        ratelimit.Retry(jitter=0.5)


def test_around_generators_and_their_article():
    async def items():
        yield 1

    with pytest.raises(InvalidArgument, match="around an async generator"):
        ratelimit.Timeout(1.0)(items)


def test_names_of_needs_are_a_list():
    with pytest.raises(InvalidArgument, match="depends_on='db'"):
        lifecycle.Lifecycle("x").add("http", depends_on="db")


def test_workers_are_callable():
    with pytest.raises(InvalidArgument, match="target"):
        lifecycle.Lifecycle("x").add_worker("consumer", 5)


def test_a_check_without_a_name_is_not_lost():
    with pytest.raises(InvalidArgument, match="name"):

        @health.Health().check
        def db(): ...


def test_watching_no_loop():
    with pytest.raises(InvalidArgument, match="loop=None"):
        health.Health().watch_loop()


def test_binding_nothing():
    with pytest.raises(InvalidArgument, match="fn=5"):
        context.bind(5)


def test_settings_made_by_hand_say_what_fits():
    with pytest.raises(ValueError, match=r"-1 is out of range: expected > 0"):
        config.TimeoutConfig(seconds=-1)


def test_how_things_show_themselves():
    bucket = ratelimit.TokenBucket("5/s", name="api")
    assert repr(ratelimit.AllOf(bucket, name="all")) == "<AllOf 'all' of <TokenBucket 'api'>>"
    assert repr(health.Health("shop")) == "<Health 'shop', 0 checks>"
    assert repr(lifecycle.Lifecycle("shop")) == "<Lifecycle 'shop' new>"


def _raised(call):
    try:
        call()
    except errors.HastackError as error:
        return error
    raise AssertionError


def _fails(**steps):
    life = lifecycle.Lifecycle("x", lame_duck=0.0, stop=0.01)
    life.add("part", **steps)
    with life:
        pass


@pytest.mark.parametrize(
    "error",
    [
        errors.MissingDependency("click", extra="cli"),
        errors.ClosedError("api"),
        errors.RetryBudgetExhausted("api", retry_after=1.5),
        errors.InvalidKey("key", 5, "a hashable value"),
        errors.ShutdownRequested("received SIGTERM", signal=15),
        errors.Cancelled("stop"),
        errors.RequestTooLarge("bytes", 5, 4, endpoint="a:1"),
        errors.RequestTooLarge("operations"),
        errors.StoreTimeout("no answer", endpoint="a:1", indeterminate=True),
        errors.StoreUnavailable("gone", code="UNAVAILABLE"),
        errors.LeaseLost("gone", lease=7),
        _raised(lambda: config.load(env=None, override={"x": 1, "y": 2})),
        _raised(lambda: _fails(start=lambda: 1 / 0)),
        _raised(lambda: _fails(stop=lambda: time.sleep(2.0))),
    ],
)
def test_every_error_survives_a_process_pool(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert set(vars(copy)) == set(vars(error))


def test_a_with_block_has_no_arguments_for_a_key():
    keyed = ratelimit.TokenBucket("5/s", key=lambda user: user)
    with pytest.raises(InvalidArgument, match=r"key=.*with block; see \.reserve"), keyed:
        pass
    costly = ratelimit.ConcurrencyLimit(5, cost=lambda size: size, max_wait=1.0)

    async def block():
        async with costly:
            pass

    with pytest.raises(InvalidArgument, match=r"cost=.*with block"):
        asyncio.run(block())
    with ratelimit.TokenBucket("5/s", key=lambda *args: args):
        pass


def test_type_errors_of_a_key_function_are_its_own():
    def broken():
        raise TypeError("mine")

    with pytest.raises(TypeError, match=r"^mine$"), ratelimit.TokenBucket("5/s", key=broken):
        pass
    with pytest.raises(TypeError), ratelimit.TokenBucket("5/s", key=getattr):
        pass


def test_awaiting_what_cannot_be_awaited():
    async def answer():
        return 5

    assert asyncio.run(ratelimit.Retry().call_async(lambda: answer())) == 5
    with pytest.raises(InvalidArgument, match=r"awaitable; see \.call\(\)"):
        asyncio.run(ratelimit.Retry().call_async(lambda: 5))
