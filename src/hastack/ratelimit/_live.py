"""Guards that follow their configuration."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from hastack._core._errors import InvalidArgument
from hastack._core._fork import renew_in_child
from hastack.config import Config, Watched

from ._from_config import build
from ._guard import Admission
from ._live_events import (
    GUARD_RELOAD_FAILED,
    GUARD_RELOADED,
    GuardReloaded,
    GuardReloadFailed,
)
from ._retry import Retry
from ._shadow import Shadow

if TYPE_CHECKING:
    from collections.abc import Callable

    from hastack.config import GuardConfig

    from ._guard import Guard

C = TypeVar("C")

# `follow` compares entries with it.
_NOTHING: Any = object()

_log = logging.getLogger("hastack.ratelimit")

# What a guard is built around. The rest is followed.
_BUILT_IN = frozenset({"initial", "max_keys", "slot", "when_full", "window", "window_calls"})


def live(
    watched: Watched[C],
    entry: str | Callable[[C], GuardConfig],
    *,
    name: str | None = None,
    **options: Any,
) -> Shadow[Guard]:
    """The guard that an entry of a watched configuration describes, and goes on describing.

    Rates, bursts, limits, thresholds, timeouts and ``shadow`` follow each reload, all of one
    reload at once, and nothing that was counted is lost. What a guard is built around (the
    keys kept, the window of a breaker, whether it waits at all) needs a restart:
    `GuardReloaded` lists it under ``kept``. An entry of another kind, or none any more, changes
    nothing: `GuardReloadFailed` and a log record say so.

    The result is a `Shadow`, active when the entry says ``shadow = true``, and otherwise the
    guard itself with one step more. It follows for as long as it lives.

    Args:
        watched: Made by `hastack.config.watch`.
        entry: Key in ``Config.ratelimit``, or a function from the whole configuration to the
            entry.
        name: The guard's name in errors and events; default: the key.
        **options: See `from_config`.

    Raises:
        InvalidArgument: ``watched`` is none, there is no such entry, or as in `from_config`.

    Example:
        >>> from hastack import config, ratelimit
        >>> watched = config.watch(env={"HASTACK_RATELIMIT__API__RATE": "2/min"})
        >>> api = ratelimit.live(watched, "api", key=lambda user: user)
        >>> [bool(api.try_acquire("ada")) for _ in range(3)]
        [True, True, False]
    """
    if not isinstance(watched, Watched):
        raise InvalidArgument("watched", watched, "a configuration made by hastack.config.watch")
    find: Callable[[Any], GuardConfig]
    if isinstance(entry, str):
        find, called = _by_key(watched.current, entry), name or entry
    elif name is not None:
        find, called = entry, name
    else:
        raise InvalidArgument("name", name, "a name, for an entry found by a function")
    settings = _found(find, watched.current)
    if settings is None:
        raise InvalidArgument("entry", entry, "an entry of the configuration")
    guard = build(settings, called, options)
    shadow: Shadow[Guard] = Shadow(guard, active=settings.shadow)
    follower = _Follower(shadow, settings, find, options)
    follower.end = watched.subscribe(follower.follow)
    follower.follow(None, watched.current)  # what came between the look and the subscription
    return shadow


class _Follower:
    """Keeps one guard up to date; held by the configuration, holds the guard weakly."""

    end: Callable[[], None]

    def __init__(
        self,
        shadow: Shadow[Guard],
        settings: GuardConfig,
        find: Callable[[Any], GuardConfig],
        options: dict[str, Any],
    ) -> None:
        self._shadow = weakref.ref(shadow)
        self._settings = settings
        self._find = find
        self._options = options
        self._lock = threading.RLock()
        self._failed: Any = _NOTHING
        renew_in_child(self)

    def follow(self, old: object, new: Any) -> None:
        shadow = self._shadow()
        if shadow is None:
            self.end()
            return
        wanted = _found(self._find, new)
        with self._lock:
            if wanted == self._failed:
                return  # said already
            if wanted == self._settings:
                self._failed = _NOTHING
            elif wanted is None:
                self._refuse(shadow, wanted, "removed", "the entry is gone; the guard stays")
            elif wanted.kind != self._settings.kind:
                detail = f"{wanted.kind} wanted; a restart turns the {self._settings.kind} into one"
                self._refuse(shadow, wanted, "kind changed", detail)
            else:
                self._take_over(shadow, wanted)

    def _take_over(self, shadow: Shadow[Guard], wanted: GuardConfig) -> None:
        try:
            waits = self._replace(shadow, wanted)
        except Exception as error:
            self._refuse(shadow, wanted, "refused", str(error))
            return
        shadow.switch(active=wanted.shadow)
        differ = {
            field.name
            for field in attrs.fields(type(wanted))
            if getattr(wanted, field.name) != getattr(self._settings, field.name)
        }
        kept = differ & (_BUILT_IN if waits else _BUILT_IN | {"max_wait"})
        self._settings, self._failed = wanted, _NOTHING
        if GUARD_RELOADED.subscribers:
            GUARD_RELOADED.publish(
                GuardReloaded(
                    name=shadow.name,
                    changed=tuple(sorted(differ - kept)),
                    kept=tuple(sorted(kept)),
                )
            )

    def _replace(self, shadow: Shadow[Guard], wanted: GuardConfig) -> bool:
        """Bring the guard up to date; says whether its ``max_wait`` could follow."""
        guard = shadow.guard
        options = self._options
        budget = guard.budget if isinstance(guard, Retry) and "budget" not in options else None
        ratio = getattr(wanted, "budget_ratio", None)
        if budget is not None and ratio is not None:  # the same budget, with what it counted
            options = {**options, "budget": budget}
        fresh = build(wanted, guard.name, options)
        if budget is not None and ratio is not None:
            budget.update(
                ratio=ratio, min_per_second=getattr(wanted, "budget_min_per_second", None)
            )
        if not isinstance(guard, Admission):
            shadow.guard = fresh  # remembers nothing but its settings
            return True
        guard._adopt(fresh)
        return guard._waits is fresh._waits if isinstance(fresh, Admission) else True

    def _refuse(
        self, shadow: Shadow[Guard], wanted: GuardConfig | None, reason: str, detail: str
    ) -> None:
        self._failed = wanted
        _log.error("%s: cannot follow its configuration: %s: %s", shadow.name, reason, detail)
        if GUARD_RELOAD_FAILED.subscribers:
            GUARD_RELOAD_FAILED.publish(
                GuardReloadFailed(name=shadow.name, reason=reason, detail=detail)
            )

    def _after_fork(self) -> None:
        self._lock = threading.RLock()


def _by_key(current: object, key: str) -> Callable[[Any], GuardConfig]:
    """From a configuration to its entry ``key``, wherever in it the `Config` is."""
    if isinstance(current, Config):
        return lambda config: config.ratelimit[key]
    kind: Any = type(current)
    names = [field.name for field in attrs.fields(kind)] if attrs.has(kind) else []
    places = [each for each in names if isinstance(getattr(current, each), Config)]
    if len(places) != 1:
        raise InvalidArgument("entry", key, "a function, where no field is the hastack.Config")
    (place,) = places

    def found(config: Any) -> GuardConfig:
        inner: Config = getattr(config, place)
        return inner.ratelimit[key]

    return found


def _found(find: Callable[[Any], GuardConfig], config: Any) -> GuardConfig | None:
    try:
        return find(config)
    except (LookupError, AttributeError):
        return None
