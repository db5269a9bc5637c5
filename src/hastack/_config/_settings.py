"""The settings of hastack itself, as one frozen tree."""
# ruff: noqa: RUF009  # setting() is an attrs.field(), made anew for each class

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # annotations are resolved at runtime
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeAlias, TypeVar, final

import attrs

from hastack._core._errors import InvalidArgument

from ._fields import SECTIONS, Rate, Seconds, setting

T = TypeVar("T")


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
    rate: Rate = setting(above=0.0, help="Permits per time.")
    burst: int | None = setting(
        None, minimum=1, unit="permits", help="Permits that may be taken at once; unset: by rate."
    )
    max_keys: int = setting(10_000, minimum=1, help="Keys kept in memory before idle ones go.")
    max_wait: Seconds = setting(0.0, minimum=0.0, help="Longest wait for a permit.")


@final
@attrs.frozen(kw_only=True)
class ConcurrencyConfig:
    """A bulkhead: so many calls at once."""

    kind: Literal["concurrency-limit"] = setting("concurrency-limit", help="Algorithm.")
    limit: int = setting(minimum=1, unit="calls", help="Calls in flight.")
    max_wait: Seconds = setting(0.0, minimum=0.0, help="Longest wait for a place.")


@final
@attrs.frozen(kw_only=True)
class AdaptiveConfig:
    """A concurrency limit that follows the capacity behind it."""

    kind: Literal["adaptive-limit"] = setting("adaptive-limit", help="Algorithm.")
    initial: int = setting(20, minimum=1, unit="calls", help="Limit before anything is known.")
    minimum: int = setting(1, minimum=1, unit="calls", help="The limit never falls below.")
    maximum: int = setting(1000, minimum=1, unit="calls", help="The limit never rises above.")

    def __attrs_post_init__(self) -> None:
        if not self.minimum <= self.initial <= self.maximum:
            raise ValueError("expected minimum <= initial <= maximum")


@final
@attrs.frozen(kw_only=True)
class BreakerConfig:
    """A circuit breaker."""

    kind: Literal["circuit-breaker"] = setting("circuit-breaker", help="Algorithm.")
    failure_rate: float = setting(
        0.5, above=0.0, maximum=1.0, help="Share of failed calls that opens it."
    )
    window: Seconds = setting(10.0, above=0.0, help="Time over which calls are counted.")
    min_calls: int = setting(20, minimum=1, help="Calls before it judges.")
    slow_call: Seconds | None = setting(None, above=0.0, help="A longer call counts as slow.")
    slow_rate: float = setting(
        0.5, above=0.0, maximum=1.0, help="Share of slow calls that opens it."
    )
    open_for: Seconds = setting(5.0, above=0.0, help="Time open before the first probe.")
    open_max: Seconds = setting(60.0, above=0.0, help="Cap of the growing time open.")
    half_open_calls: int = setting(1, minimum=1, help="Probes at once while half-open.")

    def __attrs_post_init__(self) -> None:
        if self.open_max < self.open_for:
            raise ValueError("expected open_max >= open_for")


@final
@attrs.frozen(kw_only=True)
class RetryConfig:
    """Retries with exponential backoff and full jitter."""

    kind: Literal["retry"] = setting("retry", help="Algorithm.")
    attempts: int = setting(3, minimum=1, help="Tries in all, the first one included.")
    base: Seconds = setting(0.1, above=0.0, help="Backoff before the second try.")
    cap: Seconds = setting(10.0, above=0.0, help="Longest backoff.")
    budget: float = setting(
        0.1, above=0.0, maximum=1.0, help="Retries allowed as a share of calls."
    )

    def __attrs_post_init__(self) -> None:
        if self.cap < self.base:
            raise ValueError("expected cap >= base")


@final
@attrs.frozen(kw_only=True)
class TimeoutConfig:
    """A deadline around each call."""

    kind: Literal["timeout"] = setting("timeout", help="Algorithm.")
    timeout: Seconds = setting(above=0.0, help="Time that a call may take.")


GuardConfig: TypeAlias = (
    LimiterConfig | ConcurrencyConfig | AdaptiveConfig | BreakerConfig | RetryConfig | TimeoutConfig
)
"""Any guard's settings; ``kind`` says which, a token bucket when it is missing."""


@final
@attrs.frozen(kw_only=True)
class LifecycleConfig:
    """How a service starts and stops."""

    start_timeout: Seconds = setting(60.0, above=0.0, help="Time for everything to start.")
    probe_period: Seconds = setting(10.0, above=0.0, help="How often the balancer asks readiness.")
    failure_threshold: int = setting(
        3, minimum=1, help="Failed probes before the balancer stops sending."
    )
    lame_duck: Seconds | None = setting(
        None,
        minimum=0.0,
        help="Time served after readiness went false; unset: probe_period x failure_threshold.",
    )
    drain_timeout: Seconds = setting(30.0, minimum=0.0, help="Time for requests under way to end.")
    stop_timeout: Seconds = setting(10.0, above=0.0, help="Time for components to stop.")

    @property
    def lame_duck_seconds(self) -> float:
        """The lame-duck time in force."""
        if self.lame_duck is not None:
            return self.lame_duck
        return self.probe_period * self.failure_threshold


@final
@attrs.frozen(kw_only=True)
class HealthConfig:
    """How health is judged."""

    check_timeout: Seconds = setting(1.0, above=0.0, help="Time for one check.")
    cache_ttl: Seconds = setting(1.0, minimum=0.0, help="How long a check's answer is kept.")
    loop_blocked_after: Seconds = setting(
        5.0, above=0.0, help="An event loop blocked for longer is unhealthy."
    )


@final
@attrs.frozen(kw_only=True)
class EventsConfig:
    """Queues between events and slow consumers."""

    queue_size: int = setting(1024, minimum=1, unit="events", help="Events kept at most.")
    queue_policy: Literal["drop-oldest", "drop-newest"] = setting(
        "drop-oldest", help="What is given up when a queue is full."
    )


@final
@attrs.frozen(kw_only=True)
class Config:
    """The settings of hastack; frozen.

    Attributes:
        ratelimit: Guards by name.
        lifecycle: How the service starts and stops.
        health: How health is judged.
        events: Queues between events and slow consumers.
        sections: Settings of further packages, by name; read them through their `Section`.
    """

    ratelimit: Mapping[str, GuardConfig] = setting(
        factory=lambda: MappingProxyType({}), help="Guards by name."
    )
    lifecycle: LifecycleConfig = setting(
        factory=LifecycleConfig, help="How the service starts and stops."
    )
    health: HealthConfig = setting(factory=HealthConfig, help="How health is judged.")
    events: EventsConfig = setting(
        factory=EventsConfig, help="Queues between events and slow consumers."
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
    if not (name.isidentifier() and name.islower()) or "__" in name:
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


def registered_sections() -> dict[str, type]:
    """The settings class of each registered section."""
    return {name: each.settings for name, each in list(_sections.items())}


def sections_field(cls: type) -> str | None:
    """The field of ``cls`` that holds registered sections; only `Config` has one."""
    return next((a.name for a in attrs.fields(cls) if a.metadata.get(SECTIONS)), None)
