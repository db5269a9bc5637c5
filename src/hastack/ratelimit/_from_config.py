"""Guards out of configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import attrs

from hastack._core._errors import InvalidArgument

if TYPE_CHECKING:
    from hastack.config import (
        AdaptiveConfig,
        BreakerConfig,
        ConcurrencyConfig,
        GuardConfig,
        LimiterConfig,
        RetryConfig,
        TimeoutConfig,
    )

    from ._adaptive_limit import AdaptiveLimit
    from ._circuit import CircuitBreaker
    from ._concurrency import ConcurrencyLimit
    from ._guard import Guard
    from ._limiter import RateLimiter
    from ._retry import Retry
    from ._timeout import Timeout

_CLASSES = {
    "adaptive-limit": "AdaptiveLimit",
    "circuit-breaker": "CircuitBreaker",
    "concurrency-limit": "ConcurrencyLimit",
    "fixed-window": "FixedWindow",
    "leaky-bucket": "LeakyBucket",
    "retry": "Retry",
    "sliding-window-counter": "SlidingWindowCounter",
    "sliding-window-log": "SlidingWindowLog",
    "timeout": "Timeout",
    "token-bucket": "TokenBucket",
}


@overload
def from_config(settings: LimiterConfig, *, name: str, **options: Any) -> RateLimiter: ...
@overload
def from_config(settings: ConcurrencyConfig, *, name: str, **options: Any) -> ConcurrencyLimit: ...
@overload
def from_config(settings: AdaptiveConfig, *, name: str, **options: Any) -> AdaptiveLimit: ...
@overload
def from_config(settings: BreakerConfig, *, name: str, **options: Any) -> CircuitBreaker: ...
@overload
def from_config(settings: RetryConfig, *, name: str, **options: Any) -> Retry: ...
@overload
def from_config(settings: TimeoutConfig, *, name: str, **options: Any) -> Timeout: ...
@overload
def from_config(settings: GuardConfig, *, name: str, **options: Any) -> Guard: ...


def from_config(settings: GuardConfig, *, name: str, **options: Any) -> Guard:
    """The guard that ``settings`` describe.

    Its static type follows that of ``settings``: a field of your own settings class that is a
    `hastack.config.BreakerConfig` gives a `CircuitBreaker`, an entry of ``Config.ratelimit``,
    whose kind only the file knows, a `Guard`. Settings that say ``shadow = true`` give a `Shadow`
    of it, which has the same methods and attributes.

    Args:
        settings: One entry of ``Config.ratelimit``, or a field of your own of such a class.
        name: The guard's name in errors and events; usually the entry's key.
        **options: What only code can say, handed to the guard's constructor: ``key``, ``cost``,
            ``failures``, ``retry_on``, ``clock`` ...

    Raises:
        InvalidArgument: ``settings`` are none, or the constructor refuses a combination.

    Example:
        >>> from hastack import config, ratelimit
        >>> loaded = config.load(env={"HASTACK_RATELIMIT__API__RATE": "2/s"})
        >>> api = ratelimit.from_config(loaded.ratelimit["api"], name="api")
        >>> [bool(api.try_acquire()) for _ in range(3)]
        [True, True, False]
    """
    import hastack.ratelimit

    guard = build(settings, name, options)
    return hastack.ratelimit.Shadow(guard) if settings.shadow else guard


def build(settings: GuardConfig, name: str, options: dict[str, Any]) -> Guard:
    """The guard itself, whether it is to be in the shadow or not."""
    import hastack.ratelimit

    kind = getattr(settings, "kind", None)
    if kind not in _CLASSES or not attrs.has(type(settings)):
        raise InvalidArgument("settings", settings, "an entry of Config.ratelimit")
    # Unset means the constructor's own default.
    found = attrs.asdict(settings, recurse=False)
    arguments = {key: value for key, value in found.items() if value is not None}
    del arguments["kind"]
    del arguments["shadow"]
    if arguments.get("max_wait") == "context":
        arguments["max_wait"] = None
    if kind in {"fixed-window", "sliding-window-counter", "sliding-window-log"}:
        arguments["limit"] = arguments.pop("rate")
    if kind == "retry":
        ratio = arguments.pop("budget_ratio", None)
        least = arguments.pop("budget_min_per_second")
        if ratio is not None and "budget" not in options:
            arguments["budget"] = hastack.ratelimit.RetryBudget(ratio, min_per_second=least)
    guard: Guard = getattr(hastack.ratelimit, _CLASSES[kind])(**arguments, name=name, **options)
    return guard
