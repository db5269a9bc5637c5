"""The snapshot: one document with everything that a dashboard shows, made of plain values."""

from __future__ import annotations

from typing import Any, TypeAlias, final

import attrs

__all__ = (
    "AdaptiveRow",
    "BreakerRow",
    "ConfigRow",
    "EbpfRow",
    "EngineRow",
    "EventRow",
    "ExporterRow",
    "HealthRow",
    "LifecycleRow",
    "LimiterRow",
    "PluginRow",
    "PolicyRow",
    "SchemaRow",
    "ServiceRow",
    "Snapshot",
)

VERSION = 1
"""Of the document; a reader refuses what it does not know."""

History: TypeAlias = "list[float | None]"


@final
@attrs.frozen(kw_only=True)
class LimiterRow:
    """A rate or concurrency limiter. Rates are per second; ``None`` before two looks."""

    id: str
    name: str
    kind: str
    state: str
    """``open`` (calls pass), ``limiting`` (some were refused lately), ``queueing``, ``closed``."""
    limit: float | None
    unit: str
    in_flight: float | None
    keys: int
    waiting: int
    allowed: int
    rejected: int
    allowed_rate: float | None
    rejected_rate: float | None
    reasons: dict[str, float]
    """Refusals per second by reason."""
    history: History
    """Allowed per second, oldest first, one value per look."""
    rejected_history: History
    adjustable: bool
    """Whether an action may change the limit."""


@final
@attrs.frozen(kw_only=True)
class BreakerRow:
    """A circuit breaker."""

    id: str
    name: str
    state: str
    calls: int
    failures: int
    slow: int
    failure_rate: float
    retry_after: float | None
    generation: int
    call_rate: float | None
    rejected: int
    rejected_rate: float | None
    history: History
    """Share of failures, oldest first."""
    states: str
    """The state at each look, oldest first, one letter each: c, o, h, f, d or w."""


@final
@attrs.frozen(kw_only=True)
class AdaptiveRow:
    """An adaptive concurrency limit; latencies in seconds."""

    id: str
    name: str
    limit: int
    in_flight: int
    waiting: int
    latency: float
    baseline: float
    allowed_rate: float | None
    rejected: int
    rejected_rate: float | None
    history: History
    """The limit, oldest first."""
    in_flight_history: History
    latency_history: History


@final
@attrs.frozen(kw_only=True)
class PolicyRow:
    """What retries, hedges and fallbacks did, counted since the dashboard began."""

    name: str
    kind: str
    total: int
    rate: float | None


@final
@attrs.frozen(kw_only=True)
class ServiceRow:
    """One service as a registry of this process knows it."""

    id: str
    name: str
    namespace: str
    store: str
    age: float
    """Seconds since this was last certain."""
    complete: bool
    stale: list[str]
    instances: list[dict[str, Any]]
    """Each with id, address, zone, weight, state, since (seconds since it registered), own."""
    hidden: int
    """Instances beyond those listed."""


@final
@attrs.frozen(kw_only=True)
class ExporterRow:
    """The account of one exporter, in spans, log records or data points."""

    id: str
    name: str
    signal: str
    emitted: int
    recovered: int
    sent: int
    queued: int
    in_flight: int
    spilled: int
    dropped: dict[str, int]
    emitted_rate: float | None
    sent_rate: float | None
    lost_rate: float | None
    balanced: bool
    history: History
    """Sent per second."""


@final
@attrs.frozen(kw_only=True)
class EngineRow:
    """A run of the log engine."""

    id: str
    name: str
    lines: int
    records: int
    rejects: int
    rate: float | None
    dropped: int
    formats: dict[str, int]
    history: History


@final
@attrs.frozen(kw_only=True)
class SchemaRow:
    """The schema of one log format."""

    id: str
    format: str
    version: int
    fields: list[str]
    """``name: type``, at most a few dozen."""
    records: int
    broken: int
    unknown: int
    pinned: bool


@final
@attrs.frozen(kw_only=True)
class EbpfRow:
    """An object in the kernel."""

    id: str
    name: str
    programs: list[dict[str, Any]]
    maps: list[dict[str, Any]]
    links: list[dict[str, Any]]
    readers: list[dict[str, Any]]
    lost: int | None
    """Events for which there was no room; ``None`` where the programs do not count that."""


@final
@attrs.frozen(kw_only=True)
class PluginRow:
    """A Wasm plugin, or a swap of versions of one."""

    id: str
    name: str
    kind: str
    digest: str
    version: str
    state: str
    instances: int
    calls: int
    call_rate: float | None
    traps: int
    swaps: int
    rollbacks: int
    refused: int
    signed_by: list[str]
    last: str
    """What the last trap, refusal or rollback said."""


@final
@attrs.frozen(kw_only=True)
class LifecycleRow:
    """A service's life."""

    id: str
    name: str
    phase: str
    ready: bool
    components: list[str]
    budget: float
    failed: list[str]


@final
@attrs.frozen(kw_only=True)
class HealthRow:
    """The verdicts about a service, from memory: looking runs no check."""

    id: str
    name: str
    live: str
    ready: str
    failing: list[str]
    checks: list[dict[str, Any]]
    held: bool
    """Whether the dashboard's hold action is on."""


@final
@attrs.frozen(kw_only=True)
class ConfigRow:
    """A watched configuration."""

    id: str
    into: str
    sources: list[str]
    result: str
    """``loaded``, ``reloaded`` or ``refused``; since the dashboard began."""
    ago: float | None
    detail: list[str]


@final
@attrs.frozen(kw_only=True)
class EventRow:
    """Something that happened."""

    number: int
    ago: float
    level: str
    """``info``, ``good``, ``warn`` or ``bad``."""
    kind: str
    name: str
    text: str


@final
@attrs.frozen(kw_only=True)
class Snapshot:
    """Everything that a dashboard shows, at one moment.

    Attributes:
        version: Of the document.
        service: Name of the service.
        pid: Process id.
        hastack: Version of hastack.
        at: Wall clock in seconds since the epoch.
        uptime: Seconds since the dashboard began to look.
        period: Seconds between two looks.
        looks: How often it has looked.
        took: Seconds that the last look took.
        actions: Whether actions are enabled.
        unreadable: Objects that could not be read and are left out, and why.
        hidden: How many rows were left out of a section, by section.
    """

    version: int = VERSION
    service: str = ""
    pid: int = 0
    hastack: str = ""
    at: float = 0.0
    uptime: float = 0.0
    period: float = 1.0
    looks: int = 0
    took: float = 0.0
    actions: bool = False
    lifecycles: list[LifecycleRow] = attrs.field(factory=list)
    health: list[HealthRow] = attrs.field(factory=list)
    limiters: list[LimiterRow] = attrs.field(factory=list)
    breakers: list[BreakerRow] = attrs.field(factory=list)
    adaptive: list[AdaptiveRow] = attrs.field(factory=list)
    policies: list[PolicyRow] = attrs.field(factory=list)
    services: list[ServiceRow] = attrs.field(factory=list)
    exporters: list[ExporterRow] = attrs.field(factory=list)
    engines: list[EngineRow] = attrs.field(factory=list)
    schemas: list[SchemaRow] = attrs.field(factory=list)
    ebpf: list[EbpfRow] = attrs.field(factory=list)
    plugins: list[PluginRow] = attrs.field(factory=list)
    config: list[ConfigRow] = attrs.field(factory=list)
    events: list[EventRow] = attrs.field(factory=list)
    unreadable: dict[str, str] = attrs.field(factory=dict)
    hidden: dict[str, int] = attrs.field(factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers, for ``json.dumps``."""
        return attrs.asdict(self)
