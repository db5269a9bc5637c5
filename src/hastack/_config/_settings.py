"""The settings of hastack itself, as one frozen tree."""
# ruff: noqa: RUF009  # setting() is an attrs.field(), made anew for each class

from __future__ import annotations

import importlib
from collections.abc import Mapping  # noqa: TC003  # annotations are resolved at runtime
from pathlib import Path  # noqa: TC003  # the same
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeAlias, TypeVar, final

import attrs

from hastack._core._errors import InvalidArgument

from ._fields import SECTIONS, Rate, Seconds, setting
from ._secret import Secret

T = TypeVar("T")


MaxWait: TypeAlias = Seconds | Literal["context"] | None
WhenFull: TypeAlias = Literal["reject", "admit"]

_MAX_WAIT_HELP = (
    "Longest wait for a permit; 'context': as long as the context allows; "
    "unset: the algorithm's own default."
)
_WHEN_FULL_HELP = "What a new key gets when all keys kept are in use."

_SHADOW_HELP = "Decide and record, but refuse, delay and end no call."

# Settings of a limiter that only some algorithms know.
_ONLY_FOR = {"burst": "token-bucket", "queue": "leaky-bucket", "slot": "sliding-window-counter"}


@final
@attrs.frozen(kw_only=True)
class LimiterConfig:
    """A rate limiter."""

    kind: Literal[
        "token-bucket",
        "leaky-bucket",
        "fixed-window",
        "sliding-window-log",
        "sliding-window-counter",
    ] = setting("token-bucket", help="Algorithm.")
    rate: Rate = setting(help="Permits per time.")
    burst: float | None = setting(
        None,
        minimum=1,
        unit="permits",
        help="Permits taken at once (token-bucket); unset: one period's worth.",
    )
    queue: int | None = setting(
        None, minimum=0, unit="callers", help="Callers that may wait (leaky-bucket)."
    )
    slot: Seconds | None = setting(
        None, above=0.0, help="Length of one slot (sliding-window-counter)."
    )
    max_wait: MaxWait = setting(None, minimum=0.0, unit="seconds", help=_MAX_WAIT_HELP)
    max_waiting: int | None = setting(
        None, minimum=0, unit="callers", help="Callers that may wait (all but leaky-bucket)."
    )
    max_keys: int = setting(100_000, minimum=1, unit="keys", help="Keys kept in memory.")
    when_full: WhenFull = setting("reject", help=_WHEN_FULL_HELP)
    shadow: bool = setting(False, help=_SHADOW_HELP)

    def __attrs_post_init__(self) -> None:
        for name, kind in _ONLY_FOR.items():
            if getattr(self, name) is not None and self.kind != kind:
                raise ValueError(f"{name} is for kind = {kind!r} only")
        if self.max_waiting is not None and self.kind == "leaky-bucket":
            raise ValueError("max_waiting is not for kind = 'leaky-bucket', which has queue")


@final
@attrs.frozen(kw_only=True)
class ConcurrencyConfig:
    """A bulkhead: so many calls at once."""

    kind: Literal["concurrency-limit"] = setting("concurrency-limit", help="Algorithm.")
    limit: float = setting(minimum=1, unit="calls", help="Calls in flight.")
    max_wait: MaxWait = setting(None, minimum=0.0, unit="seconds", help=_MAX_WAIT_HELP)
    max_waiting: int = setting(1000, minimum=0, unit="callers", help="Callers that may wait.")
    max_keys: int = setting(100_000, minimum=1, unit="keys", help="Keys kept in memory.")
    when_full: WhenFull = setting("reject", help=_WHEN_FULL_HELP)
    shadow: bool = setting(False, help=_SHADOW_HELP)


@final
@attrs.frozen(kw_only=True)
class AdaptiveConfig:
    """A concurrency limit that follows the capacity behind it."""

    kind: Literal["adaptive-limit"] = setting("adaptive-limit", help="Algorithm.")
    initial: int = setting(20, minimum=1, unit="calls", help="Limit before anything is known.")
    min_limit: int = setting(1, minimum=1, unit="calls", help="The limit never falls below.")
    max_limit: int = setting(1000, minimum=1, unit="calls", help="The limit never rises above.")
    tolerance: float = setting(
        1.5, above=1.0, maximum=10.0, help="Latency to aim at, as a multiple of the unqueued one."
    )
    max_healthy_latency: Seconds | None = setting(
        None, above=0.0, help="A latency above this is overload, whatever was usual."
    )
    period: Seconds = setting(0.25, above=0.0, help="Time between two judgements.")
    min_samples: int = setting(40, minimum=10, unit="calls", help="Calls for one judgement.")
    max_wait: Seconds = setting(0.0, minimum=0.0, help="Longest wait for a place.")
    max_waiting: int = setting(100, minimum=1, unit="callers", help="Callers that may wait.")
    shadow: bool = setting(False, help=_SHADOW_HELP)

    def __attrs_post_init__(self) -> None:
        if not self.min_limit <= self.initial <= self.max_limit:
            raise ValueError("expected min_limit <= initial <= max_limit")


@final
@attrs.frozen(kw_only=True)
class BreakerConfig:
    """A circuit breaker."""

    kind: Literal["circuit-breaker"] = setting("circuit-breaker", help="Algorithm.")
    failure_rate: float = setting(
        0.5, above=0.0, maximum=1.0, help="Share of failed calls that opens it."
    )
    window: Seconds | None = setting(
        None, above=0.0, help="Time over which calls are counted; unset: the breaker's default."
    )
    window_calls: int | None = setting(
        None, minimum=1, unit="calls", help="Count over this many calls instead of over time."
    )
    min_calls: int = setting(20, minimum=1, unit="calls", help="Calls before it judges.")
    slow_call: Seconds | None = setting(None, above=0.0, help="A longer call counts as slow.")
    slow_rate: float = setting(
        0.5, above=0.0, maximum=1.0, help="Share of slow calls that opens it."
    )
    open_for: Seconds = setting(5.0, above=0.0, help="Time open before the first probe.")
    open_factor: float = setting(2.0, minimum=1.0, help="Growth of the time open.")
    open_max: Seconds = setting(60.0, above=0.0, help="Cap of the time open.")
    jitter: float = setting(
        0.1, minimum=0.0, below=1.0, help="Share of the time open that is drawn at random."
    )
    half_open_calls: int = setting(1, minimum=1, unit="calls", help="Probes while half-open.")
    half_open_success: float = setting(
        1.0, above=0.0, maximum=1.0, help="Share of good probes that closes it."
    )
    half_open_timeout: Seconds = setting(
        30.0, above=0.0, help="Time after which an unanswered probe counts as failed."
    )
    shadow: bool = setting(False, help=_SHADOW_HELP)

    def __attrs_post_init__(self) -> None:
        if self.window is not None and self.window_calls is not None:
            raise ValueError("window and window_calls exclude each other")
        if self.window_calls is not None and self.min_calls > self.window_calls:
            raise ValueError("expected min_calls <= window_calls")
        if self.open_max < self.open_for:
            raise ValueError("expected open_max >= open_for")


@final
@attrs.frozen(kw_only=True)
class RetryConfig:
    """Retries with exponential backoff and full jitter."""

    kind: Literal["retry"] = setting("retry", help="Algorithm.")
    attempts: int = setting(3, minimum=1, help="Tries in all, the first one included.")
    base: Seconds = setting(0.1, minimum=0.0, help="Backoff before the second try.")
    cap: Seconds = setting(10.0, minimum=0.0, help="Longest backoff.")
    factor: float = setting(2.0, minimum=1.0, help="Growth of the backoff.")
    jitter: bool = setting(True, help="Draw each backoff between zero and its full length.")
    max_retry_after: Seconds = setting(
        60.0, minimum=0.0, help="When an answer asks for a longer wait, there is no further try."
    )
    attempt_timeouts: bool = setting(False, help="Retry a call that its own timeout ended, too.")
    budget_ratio: float | None = setting(
        None, above=0.0, maximum=1.0, help="Retries allowed as a share of calls; unset: any."
    )
    budget_min_per_second: float = setting(
        10.0, minimum=0.0, help="Retries per second that the budget always allows."
    )
    shadow: bool = setting(False, help=_SHADOW_HELP)

    def __attrs_post_init__(self) -> None:
        if self.cap < self.base:
            raise ValueError("expected cap >= base")


@final
@attrs.frozen(kw_only=True)
class TimeoutConfig:
    """A deadline around each call."""

    kind: Literal["timeout"] = setting("timeout", help="Algorithm.")
    seconds: Seconds = setting(above=0.0, help="Time that a call may take.")
    shadow: bool = setting(False, help=_SHADOW_HELP)


GuardConfig: TypeAlias = (
    LimiterConfig | ConcurrencyConfig | AdaptiveConfig | BreakerConfig | RetryConfig | TimeoutConfig
)
"""Any guard's settings; ``kind`` says which, a token bucket when it is missing."""


@final
@attrs.frozen(kw_only=True)
class LifecycleConfig:
    """How a service starts and stops; fields are the options of `hastack.lifecycle.Lifecycle`."""

    lame_duck: Seconds | None = setting(
        None,
        minimum=0.0,
        help="Time served after readiness went false; unset: probe_period x probe_failures.",
    )
    probe_period: Seconds = setting(10.0, above=0.0, help="How often the balancer asks readiness.")
    probe_failures: int = setting(
        3, minimum=1, help="Failed probes before the balancer stops sending."
    )
    drain: Seconds = setting(20.0, minimum=0.0, help="Time for requests under way to end.")
    stop: Seconds = setting(10.0, minimum=0.0, help="Time for components to stop.")
    start: Seconds = setting(60.0, above=0.0, help="Time for everything to start.")


@final
@attrs.frozen(kw_only=True)
class HealthConfig:
    """How health is judged; fields are the options of `hastack.health.Health`."""

    check_timeout: Seconds = setting(1.0, above=0.0, help="Time for one run of a check.")
    cache_ttl: Seconds = setting(1.0, minimum=0.0, help="How long a check's answer is kept.")
    failures: int = setting(2, minimum=1, help="Failures in a row that turn a check bad.")
    successes: int = setting(1, minimum=1, help="Successes in a row that turn it good again.")
    loop_blocked_after: Seconds = setting(
        5.0, above=0.0, help="An event loop blocked for longer is unhealthy."
    )


@final
@attrs.frozen(kw_only=True)
class DiscoveryConfig:
    """Where instances are registered; fields are the options of `hastack.discovery.connect`."""

    url: Secret = setting(
        Secret("memory://"),
        help="Store: memory://NAME or etcd://USER:PASSWORD@HOST:PORT,HOST:PORT. Masked, because "
        "it may hold a password.",
    )
    namespace: str = setting("default", help="Tenant or environment.")
    origin: str = setting("local", help="Name of the cluster that the store belongs to.")
    timeout: Seconds = setting(5.0, above=0.0, help="Longest wait of one call for the store.")
    idle: Seconds = setting(300.0, above=0.0, help="When a watch ends that nobody uses.")
    stale_after: Seconds = setting(
        15.0, above=0.0, help="Time without certainty after which a view is called stale."
    )
    cache: Path | None = setting(
        None, help="File with the last good views, to start with while the store is away."
    )


@final
@attrs.frozen(kw_only=True)
class Config:
    """The settings of hastack; frozen.

    Attributes:
        ratelimit: Guards by name.
        lifecycle: How the service starts and stops.
        health: How health is judged.
        discovery: Where instances are registered.
        sections: Settings of further packages, by name; read them through their `Section`.
    """

    ratelimit: Mapping[str, GuardConfig] = setting(
        factory=lambda: MappingProxyType({}), help="Guards by name."
    )
    lifecycle: LifecycleConfig = setting(
        factory=LifecycleConfig, help="How the service starts and stops."
    )
    health: HealthConfig = setting(factory=HealthConfig, help="How health is judged.")
    discovery: DiscoveryConfig = setting(
        factory=DiscoveryConfig, help="Where instances are registered."
    )
    sections: Mapping[str, Any] = attrs.field(
        factory=lambda: MappingProxyType({}), metadata={SECTIONS: True}
    )


@final
class Section(Generic[T]):
    """One package's part of every `Config`, with its type. Made by `section`."""

    __slots__ = ("name", "settings")

    def __init__(self, name: str, settings: type[T]) -> None:
        self.name = name
        self.settings = settings

    def of(self, config: Config) -> T:
        """This section of ``config``; its defaults when ``config`` was built without it."""
        found: T | None = config.sections.get(self.name)
        return self.settings() if found is None else found

    def __repr__(self) -> str:
        return f"Section({self.name!r}, {self.settings.__qualname__})"


_sections: dict[str, Section[Any]] = {}


def section(name: str, settings: type[T]) -> Section[T]:
    """Add a table to `Config` for a package; call it where the package is imported.

    Args:
        name: Key of the table, a Python name in lower case.
        settings: An attrs class whose fields all have defaults.

    Returns:
        The handle that reads the section with its type.

    Raises:
        InvalidArgument: The name is no lower-case identifier, is a field of `Config` or belongs
            to another class; or ``settings`` is no attrs class with defaults.

    Example:
        >>> import attrs
        >>> from hastack import config
        >>> @attrs.frozen(kw_only=True)
        ... class MailConfig:
        ...     host: str = "localhost"
        >>> MAIL = config.section("mail_example", MailConfig)
        >>> loaded = config.load(env=None, override={"mail_example": {"host": "mx.example"}})
        >>> MAIL.of(loaded).host
        'mx.example'
    """
    given: Any = name
    if not isinstance(given, str) or not (name.isidentifier() and name.islower()) or "__" in name:
        raise InvalidArgument("name", name, "a lower-case identifier without '__'")
    if name in attrs.fields_dict(Config):
        raise InvalidArgument("name", name, "a name that Config does not use itself")
    if not attrs.has(settings) or any(
        a.init and a.default is attrs.NOTHING for a in attrs.fields(settings)
    ):
        raise InvalidArgument("settings", settings, "an attrs class whose fields have defaults")
    known = _sections.get(name)
    if known is not None and known.settings is not settings:
        raise InvalidArgument("name", name, f"a free name; it belongs to {known.settings!r}")
    if known is None:
        known = _sections[name] = Section(name, settings)
    return known


# hastack's own sections. One file serves processes that import different packages, so each of
# them must know all; named as text, because the packages stand above this one.
_OWN = ("hastack.observe._options", "hastack.observe.logs._settings", "hastack.wasm._settings")


def registered_sections() -> dict[str, type]:
    """The settings class of each registered section."""
    for module in _OWN:
        importlib.import_module(module)
    return {name: each.settings for name, each in list(_sections.items())}


def sections_field(cls: type) -> str | None:
    """The field of ``cls`` that holds registered sections; only `Config` has one."""
    return next((a.name for a in attrs.fields(cls) if a.metadata.get(SECTIONS)), None)
