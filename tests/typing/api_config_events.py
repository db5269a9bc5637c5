"""Read by mypy and pyright, never run: guards from settings and recorded events have types."""

from __future__ import annotations

from typing import Any, assert_type

from hastack import config, events
from hastack.ratelimit import (
    AdaptiveLimit,
    BreakerChanged,
    CircuitBreaker,
    ConcurrencyLimit,
    Decision,
    Guard,
    RequestRejected,
    Retry,
    Timeout,
    from_config,
)

limiter = from_config(config.LimiterConfig(rate="5/s"), name="api")
assert_type(limiter.try_acquire("ada"), Decision)
assert_type(from_config(config.BreakerConfig(), name="db"), CircuitBreaker)
assert_type(from_config(config.ConcurrencyConfig(limit=3), name="pool"), ConcurrencyLimit)
assert_type(from_config(config.AdaptiveConfig(), name="peer"), AdaptiveLimit)
assert_type(from_config(config.RetryConfig(), name="again"), Retry)
assert_type(from_config(config.TimeoutConfig(seconds=1.0), name="soon"), Timeout)


def any_guard(settings: config.GuardConfig) -> Guard:
    return from_config(settings, name="x")


with events.record(RequestRejected) as seen:
    assert_type(seen, list[RequestRejected])
with events.record(RequestRejected, BreakerChanged, limit=10) as both:
    assert_type(both, list[Any])
with events.record() as every:
    assert_type(every, list[Any])
