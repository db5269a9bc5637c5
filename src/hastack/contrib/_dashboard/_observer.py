"""Looks at the objects of this process once a period and keeps the last snapshot.

Without an observer nothing is counted anywhere: it subscribes to events and puts counting cores in
front of limiters when it opens, and takes both away when it closes. It holds what it shows weakly.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from hastack._core._alive import alive
from hastack._core._fork import renew_in_child

from . import _read_guards, _read_rooms
from ._document import EventRow, Snapshot
from ._look import Look
from ._recorder import Recorder
from ._sampling import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("Observer",)

MOST_ROWS: Final = 200
"""Rows of one section; the rest is counted in `Snapshot.hidden`."""

_WINDOW: Final = 5.0  # seconds of which a rate is the mean
_SHOWN_EVENTS: Final = 100

# section -> (module, class, reader, what watches each object, whether a reader gives several rows).
# A module that nobody imported has no objects; it is not imported to find that out.
_R, _G = _read_rooms, _read_guards
_READERS: tuple[tuple[str, str, str, Any, Any], ...] = (
    ("lifecycles", "hastack.lifecycle", "Lifecycle", _R.lifecycle, None),
    ("health", "hastack.health", "Health", _R.health, None),
    ("limiters", "hastack.ratelimit._limiter", "RateLimiter", _G.limiter, _G.watch_guard),
    ("limiters", "hastack.ratelimit._all_of", "AllOf", _G.limiter, _G.watch_guard),
    ("breakers", "hastack.ratelimit._circuit", "CircuitBreaker", _G.breaker, None),
    (
        *("adaptive", "hastack.ratelimit._adaptive_limit", "AdaptiveLimit"),
        *(_G.adaptive, _G.watch_guard),
    ),
    ("services", "hastack.discovery.registry", "Registry", _R.services, None),
    ("exporters", "hastack.observe._exporter", "Exporter", _R.exporter, None),
    ("engines", "hastack.observe.logs.engine", "Engine", _R.engine, None),
    ("schemas", "hastack.observe.logs.tracking", "SchemaTracker", _R.schemas, None),
    ("ebpf", "hastack.ebpf._object", "Object", _R.ebpf, None),
    ("plugins", "hastack.wasm._plugin", "Plugin", _R.plugin, _R.watch_plugin),
    ("plugins", "hastack.wasm._swap", "Swap", _R.swap, None),
    ("config", "hastack._config._watch", "Watched", _R.config, None),
)


@attrs.define(eq=False)
class _Seen:
    """What is remembered of one object while it lives."""

    key: str
    thing: weakref.ref[Any]
    end: Callable[[], None] | None = None
    epoch: object = None
    counted: int = 0
    calls: int = 0


@final
class Observer:
    """Takes snapshots of this process.

    Args:
        objects: What is shown, held weakly; ``None`` shows everything that is alive.
        service: Name of the service.
        period: Seconds between two looks.
        history: Values of each history.
    """

    def __init__(
        self,
        objects: Sequence[object] | None,
        *,
        service: str,
        period: float,
        history: int,
    ) -> None:
        self._chosen = None if objects is None else [weakref.ref(each) for each in objects]
        self._service = service
        self.period = period
        self._history = history
        self._lock = threading.Lock()
        self.recorder = Recorder(most=200)
        self._sampler = Sampler(window=max(_WINDOW, period), most=history)
        self._seen: dict[int, _Seen] = {}
        self._number = 0
        self._began = time.monotonic()
        self._looks = 0
        self.held: dict[str, Any] = {}
        self.actions = False
        self.last: Snapshot | None = None
        self._closed = False
        self.recorder.open()
        renew_in_child(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # a thread of the parent may have held it

    def close(self) -> None:
        """Take away everything that counts."""
        with self._lock:
            self._closed = True
            self.recorder.close()
            seen, self._seen = list(self._seen.values()), {}
        for each in seen:
            if each.end is not None:
                each.end()

    def look(self, now: float, wall: float) -> Snapshot:
        """Take a snapshot at monotonic time ``now`` and keep it as `last`."""
        began = time.perf_counter()
        with self._lock:
            if self._closed:
                return self.last or Snapshot(service=self._service)
            found = self._found()
            self._keep(found)
            self._sampler.begin(now)
            sections: dict[str, Any]
            sections, unreadable, hidden = self._read(found, wall)
            self._sampler.end()
            self._looks += 1
            self.last = Snapshot(
                service=self._service,
                pid=os.getpid(),
                hastack=_version(),
                at=wall,
                uptime=now - self._began,
                period=self.period,
                looks=self._looks,
                took=time.perf_counter() - began,
                actions=self.actions,
                events=self._events(now),
                unreadable=unreadable,
                hidden=hidden,
                **sections,
            )
            return self.last

    def draining(self) -> bool:
        """Whether a service of this process closes its listeners: streams would hold it up."""
        last = self.last
        return last is not None and any(
            each.phase in {"draining", "stopping"} for each in last.lifecycles
        )

    def find(self, key: str) -> Any:
        """The object of a row, or ``None`` when it is gone."""
        with self._lock:
            for each in self._seen.values():
                if each.key == key:
                    return each.thing()
        return None

    # -- inside; the lock is held --------------------------------------------------------------

    def _found(self) -> list[tuple[Any, ...]]:
        """Each object that is shown, with its section and how it is read."""
        if self._chosen is None:
            things = alive()
        else:
            things = [thing for thing in (each() for each in self._chosen) if thing is not None]
        classes = []
        for section, module, name, read, watch in _READERS:
            loaded = sys.modules.get(module)
            kind = None if loaded is None else getattr(loaded, name, None)
            if kind is not None:
                classes.append((kind, section, read, watch))
        found: list[tuple[Any, ...]] = []
        for thing in things:
            for kind, section, read, watch in classes:
                if isinstance(thing, kind):
                    found.append((thing, section, read, watch))
                    break
        found.sort(key=lambda each: (each[1], str(getattr(each[0], "name", "")), id(each[0])))
        return found

    def _keep(self, found: list[tuple[Any, ...]]) -> None:
        """Know each object that is there, and forget those that are gone."""
        for number, each in list(self._seen.items()):
            if each.thing() is None:
                del self._seen[number]
        for thing, section, _, watch in found:
            if id(thing) in self._seen:
                continue
            self._number += 1
            end = None if watch is None else watch(thing)
            self._seen[id(thing)] = _Seen(
                f"{section}-{self._number}", weakref.ref(thing), end, counted=0
            )

    def _read(
        self, found: list[tuple[Any, ...]], wall: float
    ) -> tuple[dict[str, Any], dict[str, str], dict[str, int]]:
        look = Look(
            self._sampler,
            counts=self.recorder.counts(),
            reloads=self.recorder.reloads,
            last_of=self._last_of(),
            held=self.held,
            key=lambda thing: self._seen[id(thing)].key,
            tally=self._tally,
            breaker_calls=self._breaker_calls,
            wall=wall,
        )
        sections: dict[str, list[Any]] = {}
        unreadable: dict[str, str] = {}
        hidden: dict[str, int] = {}
        for thing, section, read, _ in found:
            rows = sections.setdefault(section, [])
            if len(rows) >= MOST_ROWS:
                hidden[section] = hidden.get(section, 0) + 1
                continue
            try:
                row = read(thing, look)
            except Exception as error:  # one object that is closing must not hide the others
                unreadable[self._seen[id(thing)].key] = f"{type(error).__name__}: {error}"[:200]
                continue
            rows += row if isinstance(row, list) else [] if row is None else [row]
        sections["policies"] = [] if self._chosen is not None else _read_guards.policies(look)
        return sections, unreadable, hidden

    def _tally(self, thing: Any) -> int:
        """What went through since it is watched."""
        core = getattr(thing, "_core", None)
        tally = vars(thing).get("_tally") if core is None else getattr(core, "_tally", None)
        return 0 if tally is None else tally.total()

    def _breaker_calls(self, thing: Any) -> int:
        """Calls of a breaker. Its counts begin anew with each state, so growth is added up."""
        seen = self._seen[id(thing)]
        epoch = thing._gate.core.epoch
        if epoch is not seen.epoch:
            seen.epoch, seen.counted = epoch, 0
        if epoch is not None:
            total = epoch.total
            seen.calls += max(total - seen.counted, 0)
            seen.counted = total
        return seen.calls

    def _last_of(self) -> dict[str, str]:
        bad = {"plugin trapped", "plugin refused", "plugin rolled back"}
        return {
            each.name: f"{each.kind.removeprefix('plugin ')}: {each.text}"
            for each in list(self.recorder.log)
            if each.kind in bad
        }

    def _events(self, now: float) -> list[EventRow]:
        return [
            EventRow(
                number=each.number,
                ago=max(now - each.at, 0.0),
                level=each.level,
                kind=each.kind,
                name=each.name,
                text=each.text,
            )
            for each in list(self.recorder.log)[: -_SHOWN_EVENTS - 1 : -1]
        ]


def _version() -> str:
    global _installed
    if _installed is None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            _installed = version("hastack")
        except PackageNotFoundError:
            _installed = "?"
    return _installed


_installed: str | None = None
