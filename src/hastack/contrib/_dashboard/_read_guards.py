"""Rows of limiters, breakers and adaptive limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hastack.ratelimit._tally import tallied, untallied

from ._document import AdaptiveRow, BreakerRow, LimiterRow, PolicyRow

if TYPE_CHECKING:
    from ._look import Look

__all__ = ("adaptive", "breaker", "limiter", "policies", "watch_guard")

_LETTERS = {
    "closed": "c",
    "open": "o",
    "half-open": "h",
    "forced open": "f",
    "disabled": "d",
    "observe only": "w",
}


def watch_guard(thing: Any) -> Any:
    """Count what a limiter lets through; the function that ends it."""
    import weakref

    tallied(thing)
    reference = weakref.ref(thing)

    def end() -> None:
        alive = reference()
        if alive is not None:
            untallied(alive)

    return end


def limiter(thing: Any, look: Look) -> LimiterRow:
    """A rate or concurrency limiter, or an `AllOf`."""
    key = look.key(thing)
    allowed = look.allowed(thing)
    rejected, rejected_rate, reasons = look.refusals(thing.name)
    core = thing._core
    waiting = len(thing._room)
    limit, unit = _limit_of(thing)
    allowed_rate = look.sampler.rate((key, "allowed"), allowed)
    look.sampler.track((key, "allowed"), look.sampler.latest((key, "allowed")))
    look.sampler.track((key, "rejected"), look.latest_refused(thing.name))
    closed = bool(getattr(core, "closed", False) or getattr(thing, "_closed", False))
    state = "open"
    if closed:
        state = "closed"
    elif waiting:
        state = "queueing"
    elif rejected_rate:
        state = "limiting"
    table = getattr(core, "table", None)
    in_flight = None
    if hasattr(thing, "in_flight") and table is not None:
        in_flight = float(sum(list(table.young.values())))
    return LimiterRow(
        id=key,
        name=thing.name,
        kind=type(thing).__name__,
        state=state,
        limit=limit,
        unit=unit,
        in_flight=in_flight,
        keys=0 if table is None else len(table),
        waiting=waiting,
        allowed=allowed,
        rejected=rejected,
        allowed_rate=allowed_rate,
        rejected_rate=rejected_rate,
        reasons=reasons,
        history=look.sampler.history((key, "allowed")),
        rejected_history=look.sampler.history((key, "rejected")),
        adjustable=hasattr(thing, "update") and not closed,
    )


def _limit_of(thing: Any) -> tuple[float | None, str]:
    """The number that says how much passes, and what it counts."""
    if hasattr(thing, "limits"):
        return None, f"all of {', '.join(each.name for each in thing.limits)}"
    if hasattr(thing, "burst"):
        return thing.rate, f"/s, burst {thing.burst:g}"
    if hasattr(thing, "window"):
        return thing.limit, f"per {thing.window:g} s"
    if hasattr(thing, "rate"):
        return thing.rate, "/s, evenly spaced"
    return thing.limit, "at once"


def breaker(thing: Any, look: Look) -> BreakerRow:
    """A circuit breaker."""
    key = look.key(thing)
    now = thing.snapshot()
    rejected, rejected_rate, _ = look.refusals(thing.name)
    look.sampler.track((key, "failing"), now.failure_rate if now.calls else None)
    # One number per letter, so that a state's history is kept as any other.
    letter = _LETTERS.get(now.state.value, "w")
    look.sampler.track((key, "state"), float(ord(letter)))
    states = "".join(chr(int(each or 0)) for each in look.sampler.history((key, "state")))
    return BreakerRow(
        id=key,
        name=thing.name,
        state=now.state.value,
        calls=now.calls,
        failures=now.failures,
        slow=now.slow,
        failure_rate=now.failure_rate,
        retry_after=now.retry_after,
        generation=now.generation,
        call_rate=look.sampler.rate((key, "calls"), look.breaker_calls(thing)),
        rejected=rejected,
        rejected_rate=rejected_rate,
        history=look.sampler.history((key, "failing")),
        states=states,
    )


def adaptive(thing: Any, look: Look) -> AdaptiveRow:
    """An adaptive limit."""
    key = look.key(thing)
    now = thing.snapshot()
    rejected, rejected_rate, _ = look.refusals(thing.name)
    allowed = look.sampler.rate((key, "allowed"), look.allowed(thing))
    look.sampler.track((key, "limit"), now.limit)
    look.sampler.track((key, "in flight"), now.inflight)
    look.sampler.track((key, "latency"), now.latency or None)
    return AdaptiveRow(
        id=key,
        name=thing.name,
        limit=now.limit,
        in_flight=now.inflight,
        waiting=now.waiting,
        latency=now.latency,
        baseline=now.baseline,
        allowed_rate=allowed,
        rejected=rejected,
        rejected_rate=rejected_rate,
        history=look.sampler.history((key, "limit")),
        in_flight_history=look.sampler.history((key, "in flight")),
        latency_history=look.sampler.history((key, "latency")),
    )


def policies(look: Look) -> list[PolicyRow]:
    """Retries, hedges and fallbacks, which are known by their events alone."""
    rows = []
    for (kind, name, _), total in sorted(look.counts.items()):
        if kind in {"retry", "hedge", "fallback"}:
            rate = look.sampler.rate((kind, name), total, born=True)
            rows.append(PolicyRow(name=name, kind=kind, total=total, rate=rate))
    return rows
