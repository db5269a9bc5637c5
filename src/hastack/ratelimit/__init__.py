"""Protection: limiters, circuit breaker, adaptive limits, and policies that compose.

Every object here is a guard: it decorates functions, coroutine functions, generators and
methods, works as ``with`` and ``async with``, and can be asked directly.

Example:
    >>> from hastack import ratelimit
    >>> api = ratelimit.TokenBucket("100/s", burst=200, key=lambda user, **_: user)
    >>> db = ratelimit.CircuitBreaker(failure_rate=0.5, window=10.0, min_calls=20)
    >>> guard = ratelimit.compose(ratelimit.Timeout(0.25), api, db)  # outermost first
    >>> @guard
    ... def get_user(user: str) -> str:
    ...     return user.title()
    >>> get_user("ada")
    'Ada'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._adaptive_events import LimitChanged
    from ._adaptive_limit import AdaptiveLimit, AdaptiveSnapshot
    from ._all_of import AllOf
    from ._breaker import BreakerState
    from ._breaker_events import BreakerChanged
    from ._circuit import BreakerSnapshot, CircuitBreaker
    from ._compose import Pipeline, compose
    from ._concurrency import ConcurrencyLimit
    from ._decision import Decision
    from ._fallback import Fallback
    from ._from_config import from_config
    from ._guard import Admission, Guard
    from ._hedge import Hedge
    from ._leaky import LeakyBucket
    from ._limit_events import RequestRejected, ShadowRejected
    from ._live import live
    from ._live_events import GuardReloaded, GuardReloadFailed
    from ._permit import Permit
    from ._policy_events import FallbackUsed, HedgeStarted, RetryScheduled
    from ._quota import Quota
    from ._reservation import Reservation
    from ._retry import Retry, RetryBudget
    from ._retry_after import http_retry_after, parse_retry_after
    from ._server_limits import ServerLimits
    from ._shadow import Shadow
    from ._step import StepRule
    from ._timeout import Timeout
    from ._token_bucket import TokenBucket
    from ._windows import FixedWindow, SlidingWindowCounter, SlidingWindowLog

# Which module defines what; each loads when its first name is asked for.
_HOMES = {
    "AdaptiveLimit": "_adaptive_limit",
    "AdaptiveSnapshot": "_adaptive_limit",
    "Admission": "_guard",
    "AllOf": "_all_of",
    "BreakerChanged": "_breaker_events",
    "BreakerSnapshot": "_circuit",
    "BreakerState": "_breaker",
    "CircuitBreaker": "_circuit",
    "ConcurrencyLimit": "_concurrency",
    "Decision": "_decision",
    "Fallback": "_fallback",
    "FallbackUsed": "_policy_events",
    "FixedWindow": "_windows",
    "Guard": "_guard",
    "GuardReloadFailed": "_live_events",
    "GuardReloaded": "_live_events",
    "Hedge": "_hedge",
    "HedgeStarted": "_policy_events",
    "LeakyBucket": "_leaky",
    "LimitChanged": "_adaptive_events",
    "Permit": "_permit",
    "Pipeline": "_compose",
    "Quota": "_quota",
    "RequestRejected": "_limit_events",
    "Reservation": "_reservation",
    "Retry": "_retry",
    "RetryBudget": "_retry",
    "RetryScheduled": "_policy_events",
    "ServerLimits": "_server_limits",
    "Shadow": "_shadow",
    "ShadowRejected": "_limit_events",
    "SlidingWindowCounter": "_windows",
    "SlidingWindowLog": "_windows",
    "StepRule": "_step",
    "Timeout": "_timeout",
    "TokenBucket": "_token_bucket",
    "compose": "_compose",
    "from_config": "_from_config",
    "http_retry_after": "_retry_after",
    "live": "_live",
    "parse_retry_after": "_retry_after",
}

__all__ = (
    "AdaptiveLimit",
    "AdaptiveSnapshot",
    "Admission",
    "AllOf",
    "BreakerChanged",
    "BreakerSnapshot",
    "BreakerState",
    "CircuitBreaker",
    "ConcurrencyLimit",
    "Decision",
    "Fallback",
    "FallbackUsed",
    "FixedWindow",
    "Guard",
    "GuardReloadFailed",
    "GuardReloaded",
    "Hedge",
    "HedgeStarted",
    "LeakyBucket",
    "LimitChanged",
    "Permit",
    "Pipeline",
    "Quota",
    "RequestRejected",
    "Reservation",
    "Retry",
    "RetryBudget",
    "RetryScheduled",
    "ServerLimits",
    "Shadow",
    "ShadowRejected",
    "SlidingWindowCounter",
    "SlidingWindowLog",
    "StepRule",
    "Timeout",
    "TokenBucket",
    "compose",
    "from_config",
    "http_retry_after",
    "live",
    "parse_retry_after",
)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
