"""What a dashboard hears: refusals by name and reason, and a log of what is worth a line.

Subscribes on the emitting thread, so each event costs one step of a counter or one append to a
bounded log. Nothing else happens there.
"""

from __future__ import annotations

import importlib
import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, final

from hastack import events
from hastack.ratelimit._tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Heard", "Recorder")

_MOST_NAMES = 4096
_OTHER = "(others)"
_TEXT = 200  # characters of what an event says

_RATELIMIT = "hastack.ratelimit"
_EVENTS: dict[str, tuple[str, ...]] = {
    f"{_RATELIMIT}._limit_events": ("RequestRejected",),
    f"{_RATELIMIT}._breaker_events": ("BreakerChanged",),
    f"{_RATELIMIT}._policy_events": ("RetryScheduled", "HedgeStarted", "FallbackUsed"),
    "hastack._config._watch": ("ConfigReloaded", "ConfigReloadFailed"),
    "hastack._lifecycle._events": (
        *("PhaseChanged", "ComponentFailed", "ShutdownStarted", "ShutdownFinished"),
    ),
    "hastack.health": ("HealthChanged",),
    "hastack.discovery._registry_events": (
        *("InstanceRegistered", "InstanceDeregistered", "InstanceEvicted", "InstanceRestored"),
        *("WatchStale", "WatchFresh", "MalformedEntry", "InstanceContested"),
    ),
    "hastack.discovery.balance": ("EndpointEjected",),
    "hastack.observe.logs.tracking": ("SchemaChanged",),
    "hastack.observe.logs._engine_events": (
        *("RunEnded", "SourceDamaged", "LinesDropped", "WorkerRestarted"),
    ),
    "hastack.contrib._dashboard._audit": ("DashboardAction",),
    "hastack.wasm._events": (
        *("PluginActivated", "PluginRefused", "PluginTrapped", "PluginSwapped"),
        "PluginRolledBack",
    ),
}


@final
class Heard:
    """One line of the log; ``at`` is the process's monotonic clock."""

    __slots__ = ("at", "kind", "level", "name", "number", "text")

    def __init__(self, number: int, level: str, kind: str, name: str, text: str) -> None:
        self.number = number
        self.at = time.monotonic()
        self.level = level
        self.kind = kind
        self.name = name
        self.text = text[:_TEXT]


@final
class Recorder:
    """Counts and remembers events until it is closed.

    Args:
        most: Lines of the log; the oldest makes room.
    """

    def __init__(self, most: int) -> None:
        self.log: deque[Heard] = deque(maxlen=most)
        self.reloads: dict[str, Any] = {"result": "", "at": 0.0, "detail": ()}
        self._counts: dict[tuple[str, str, str], Tally] = {}
        self._numbers = count(1)
        self._stops: list[Callable[[], None]] = []

    def open(self) -> None:
        """Begin to hear; imports the declarations of the events, and nothing of third parties."""
        for module, names in _EVENTS.items():
            found = importlib.import_module(module)
            classes = [getattr(found, name) for name in names]
            for each in classes:
                self._stops.append(events.subscribe(_HEARERS[each.__name__](self), each))

    def close(self) -> None:
        """Hear no more."""
        while self._stops:
            self._stops.pop()()

    def counts(self) -> dict[tuple[str, str, str], int]:
        """``(kind, name, reason)`` -> how many so far; one thread at a time may look."""
        return {key: tally.total() for key, tally in list(self._counts.items())}

    def step(self, kind: str, name: str, reason: str = "") -> None:
        """Count one event."""
        key = (kind, name, reason)
        tally = self._counts.get(key)
        if tally is None:
            if len(self._counts) >= _MOST_NAMES:  # names that come and go must not grow memory
                key = (kind, _OTHER, "")
            tally = self._counts.setdefault(key, Tally())
        tally.step()

    def put(self, level: str, kind: str, name: str, text: str) -> None:
        """Add a line to the log."""
        self.log.append(Heard(next(self._numbers), level, kind, name, text))


def _counted(kind: str) -> Callable[[Recorder], Callable[[Any], None]]:
    def hearer(recorder: Recorder) -> Callable[[Any], None]:
        step = recorder.step

        def hear(event: Any) -> None:
            step(kind, event.name)

        return hear

    return hearer


def _refused(recorder: Recorder) -> Callable[[Any], None]:
    step = recorder.step

    def hear(event: Any) -> None:
        step("rejected", event.name, event.reason)

    return hear


def _logged(
    kind: str, about: Callable[[Any], tuple[str, str, str]]
) -> Callable[[Recorder], Callable[[Any], None]]:
    """A hearer that logs the ``(level, name, text)`` that ``about`` makes of an event."""

    def hearer(recorder: Recorder) -> Callable[[Any], None]:
        def hear(event: Any) -> None:
            level, name, text = about(event)
            recorder.put(level, kind, name, text)

        return hear

    return hearer


def _breaker(event: Any) -> tuple[str, str, str]:
    levels = {"open": "bad", "forced open": "bad", "half-open": "warn", "closed": "good"}
    text = f"{event.old.value} -> {event.new.value}: {event.reason}"
    if event.calls:
        text += f" ({event.failures} of {event.calls} calls failed)"
    return levels.get(event.new.value, "info"), event.name, text


def _phase(event: Any) -> tuple[str, str, str]:
    level = {"serving": "good", "stopped": "info"}.get(event.phase.value, "warn")
    return level, event.name, event.phase.value


def _health(event: Any) -> tuple[str, str, str]:
    level = {"pass": "good", "degraded": "warn", "fail": "bad"}[event.status.value]
    text = f"{event.check}: {event.status.value}"
    return level, event.name, f"{text} ({event.detail})" if event.detail else text


def _finished(event: Any) -> tuple[str, str, str]:
    report = event.report
    left = [*report.not_drained, *report.not_stopped]
    if left:
        return "bad", event.name, f"ended; still up: {', '.join(left)}"
    return "info", event.name, "ended in order"


def _evicted(event: Any) -> tuple[str, str, str]:
    why = f"{event.reason}: {event.error}" if event.error is not None else event.reason
    return "bad", event.instance.service, f"{event.instance.id} evicted, {why}"


def _ejected(event: Any) -> tuple[str, str, str]:
    if type(event).__name__ == "EndpointReturned":  # a subclass, delivered here too
        return "good", event.service, f"{event.instance} takes calls again"
    return "bad", event.service, f"{event.instance} set aside: its calls fail"


def _schema(event: Any) -> tuple[str, str, str]:
    return "warn", event.format, f"version {event.version}"


def _action(event: Any) -> tuple[str, str, str]:
    text = f"{event.action} by {event.who}: {event.outcome}"
    if event.detail:
        text += f" ({event.detail})"
    return "info" if event.outcome == "done" else "warn", event.target, text


def _run_ended(event: Any) -> tuple[str, str, str]:
    text = f"{event.lines} lines, {event.rejects} rejects"
    bad = event.error and event.error != "closed"
    return ("bad", event.name, f"{event.error}; {text}") if bad else ("info", event.name, text)


def _plugin(kind: str, level: str) -> Callable[[Recorder], Callable[[Any], None]]:
    def hearer(recorder: Recorder) -> Callable[[Any], None]:
        def hear(event: Any) -> None:
            recorder.step(kind, event.plugin)
            text = event.digest[:12]
            recorder.put(
                level,
                f"plugin {kind}",
                event.plugin,
                f"{text}: {event.detail}" if event.detail else text,
            )

        return hear

    return hearer


def _reloaded(recorder: Recorder) -> Callable[[Any], None]:
    def hear(event: Any) -> None:
        changed = event.changed
        recorder.reloads = {"result": "reloaded", "at": time.monotonic(), "detail": changed[:20]}
        recorder.put("good", "config", "configuration", f"changed: {', '.join(changed)}")

    return hear


def _reload_failed(recorder: Recorder) -> Callable[[Any], None]:
    def hear(event: Any) -> None:
        mistakes = tuple(str(each)[:_TEXT] for each in event.mistakes[:20])
        recorder.reloads = {"result": "refused", "at": time.monotonic(), "detail": mistakes}
        recorder.put("bad", "config", "configuration", f"refused: {'; '.join(mistakes)}")

    return hear


_HEARERS: dict[str, Callable[[Recorder], Callable[[Any], None]]] = {
    "RequestRejected": _refused,
    "BreakerChanged": _logged("breaker", _breaker),
    "RetryScheduled": _counted("retry"),
    "HedgeStarted": _counted("hedge"),
    "FallbackUsed": _counted("fallback"),
    "ConfigReloaded": _reloaded,
    "ConfigReloadFailed": _reload_failed,
    "PhaseChanged": _logged("lifecycle", _phase),
    "ComponentFailed": _logged(
        "lifecycle",
        lambda e: ("bad", e.name, f"{e.component} failed to {e.step.value}: {e.error}"),
    ),
    "ShutdownStarted": _logged("lifecycle", lambda e: ("warn", e.name, f"told to end: {e.cause}")),
    "ShutdownFinished": _logged("lifecycle", _finished),
    "HealthChanged": _logged("health", _health),
    "InstanceRegistered": _logged(
        "registry", lambda e: ("good", e.instance.service, f"{e.instance.id} registered")
    ),
    "InstanceDeregistered": _logged(
        "registry", lambda e: ("info", e.instance.service, f"{e.instance.id} deregistered")
    ),
    "InstanceEvicted": _logged("registry", _evicted),
    "InstanceRestored": _logged(
        "registry", lambda e: ("good", e.instance.service, f"{e.instance.id} is back")
    ),
    "WatchStale": _logged(
        "registry", lambda e: ("warn", e.service, f"not certain for {e.age:.1f} s")
    ),
    "WatchFresh": _logged(
        "registry", lambda e: ("good", e.service, f"certain again after {e.after:.1f} s")
    ),
    "MalformedEntry": _logged(
        "registry", lambda e: ("warn", e.key.decode("utf-8", "replace"), e.problem)
    ),
    "InstanceContested": _logged(
        "registry",
        lambda e: ("warn", e.service, f"{e.id} claimed by {', '.join(e.origins)}"),
    ),
    "EndpointEjected": _logged("balancer", _ejected),
    "SchemaChanged": _logged("schema", _schema),
    "RunEnded": _logged("logs", _run_ended),
    "SourceDamaged": _logged("logs", lambda e: ("bad", e.name, f"damaged: {e.reason}")),
    "LinesDropped": _logged("logs", lambda e: ("warn", e.name, f"{e.count} lost: {e.reason}")),
    "WorkerRestarted": _logged(
        "logs", lambda e: ("warn", e.name, f"a worker died, status {e.exit_status}")
    ),
    "DashboardAction": _logged("action", _action),
    "PluginActivated": _plugin("activated", "good"),
    "PluginRefused": _plugin("refused", "bad"),
    "PluginTrapped": _plugin("trapped", "bad"),
    "PluginSwapped": _plugin("swapped", "good"),
    "PluginRolledBack": _plugin("rolled back", "warn"),
}
