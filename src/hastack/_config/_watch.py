"""A configuration that follows its sources: whole or not at all."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, final, overload

import attrs

from hastack import events
from hastack._core._alive import track
from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import ConfigError, ConfigMistake, InvalidArgument
from hastack._core._validate import seconds

from ._describe import leaves
from ._layers import dotted
from ._load import Recipe, SourceLike, recipe
from ._settings import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from datetime import timedelta
    from types import FrameType, TracebackType

    from hastack.typing import Clock

C = TypeVar("C")

_log = logging.getLogger("hastack.config")

_SETTLE_LOOKS = 20
_SETTLE_SECONDS = 0.05


@attrs.frozen(kw_only=True)
class ConfigReloaded(events.Event):
    """A watched configuration was replaced.

    Attributes:
        changed: Dotted paths whose values differ now; values are never part of an event.
    """

    changed: tuple[str, ...]


@attrs.frozen(kw_only=True)
class ConfigReloadFailed(events.Event):
    """A reload found mistakes; the configuration before it stays in force.

    Attributes:
        mistakes: All of them.
    """

    mistakes: tuple[ConfigMistake, ...]


RELOADED = events.topic(ConfigReloaded)
RELOAD_FAILED = events.topic(ConfigReloadFailed)


class Prepared(Protocol):
    """A part's next state, ready and not yet in force. Returned to `Watched.prepare`."""

    def commit(self) -> object:
        """Put it in force; must not fail."""
        ...

    def abort(self) -> object:
        """Throw it away: somebody else refused the change."""
        ...


@final
class Watched(Generic[C]):
    """The current configuration, replaced whole when its sources change. Made by `watch`.

    A daemon thread looks at the sources every ``period`` seconds. It starts when `current` is
    first read or somebody subscribes, and again in a forked child. A reload that finds mistakes
    changes nothing: it is logged to ``hastack.config`` and published as `ConfigReloadFailed`,
    once for each state of the sources.

    Works as ``with``: leaving the block stops the thread.
    """

    def __init__(
        self, plan: Recipe[C], first: C, versions: list[Hashable], period: float, clock: Clock
    ) -> None:
        self._recipe = plan
        self._current = first
        self._versions = versions
        self._period = period
        self._clock = clock
        self._subscribers: tuple[_Subscriber[C], ...] = ()
        self._preparers: tuple[_Preparer[C], ...] = ()
        self._pending: deque[tuple[C, C]] = deque()
        self._idle = not plan.sources  # stopped, or nothing to look at
        self._hangup = False
        self._reset()
        _alive.add(self)
        track(self)

    def _reset(self) -> None:
        # Also in a forked child: the thread is the parent's, a lock may have been held.
        # Reloading holds `_lock` while subscribers run; nobody who reads or subscribes may have
        # to wait for them, so those take `_gate`.
        self._lock = threading.RLock()
        self._gate = threading.Lock()
        self._delivering = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def current(self) -> C:
        """The configuration in force. Read it once per piece of work: it may change between."""
        if self._thread is None and not self._idle:
            self._start()
        return self._current

    def subscribe(self, callback: Callable[[C, C], object]) -> Callable[[], None]:
        """Call ``callback(old, new)`` after each change, when ``current`` is the new one.

        Subscribers are called in the order of subscription, one change after the other, on the
        thread that reloads. One that raises is logged; neither the change nor the subscribers
        after it notice.

        Returns:
            A function that ends the subscription.

        Raises:
            InvalidArgument: ``callback`` cannot be called.
        """
        if not callable(callback):
            raise InvalidArgument("callback", callback, "a callable that takes old and new")
        entry = _Subscriber(callback)
        with self._gate:
            self._subscribers = (*self._subscribers, entry)
        self._start()

        def unsubscribe() -> None:
            with self._gate:
                self._subscribers = tuple(s for s in self._subscribers if s is not entry)

        return unsubscribe

    def prepare(self, path: str, callback: Callable[[C, C], Prepared | None]) -> Callable[[], None]:
        """Have a say before each change: all parts follow it, or none does.

        ``callback(old, new)`` makes ready what it takes to follow the change (a file is read, a
        plugin is compiled) and returns something with ``commit()`` and ``abort()``, or ``None``
        when nothing concerns it. When all have done so, everything is committed and ``current``
        is the new one. When one raises, everything is aborted and the reload is refused, with the
        error as a mistake at ``path``.

        Args:
            path: Dotted path of the settings that it follows, for the mistake.
            callback: Called on the thread that reloads, one after the other.

        Returns:
            A function that ends it.

        Raises:
            InvalidArgument: ``callback`` cannot be called.
        """
        if not callable(callback):
            raise InvalidArgument("callback", callback, "a callable that takes old and new")
        entry = _Preparer(path, callback)
        with self._gate:
            self._preparers = (*self._preparers, entry)
        self._start()

        def end() -> None:
            with self._gate:
                self._preparers = tuple(each for each in self._preparers if each is not entry)

        return end

    def reload(self) -> tuple[str, ...]:
        """Read the sources now, whether they look changed or not.

        Returns:
            Dotted paths that changed; empty when nothing did.

        Raises:
            ConfigError: What is wrong with them. The configuration before stays in force.
        """
        with self._lock:
            self._versions = self._look()
            outcome = self._recipe.attempt()
            if outcome.config is None:
                self._refuse(outcome.mistakes)
            return self._accept(outcome.unwrap())

    def poll(self) -> bool:
        """Look at the sources once, as the thread does; say whether the configuration changed.

        Mistakes are logged and published, not raised.
        """
        with self._lock:
            wanted, self._hangup = self._hangup, False
            versions = self._look()
            if versions == self._versions and not wanted:
                return False
            self._settle(versions)
            try:
                return bool(self.reload())
            except ConfigError:
                return False

    def reload_on_hangup(self) -> Callable[[], None]:
        """Reload on SIGHUP, within ``period`` seconds; call it on the main thread.

        Returns:
            A function that puts the handler before it back.

        Raises:
            InvalidArgument: Called on another thread: Python takes signal handlers on the main
                thread only.
        """
        import signal

        here = threading.current_thread()
        if here is not threading.main_thread():
            raise InvalidArgument("thread", here.name, "the main thread")

        def handle(number: int, frame: FrameType | None) -> None:
            # Only a flag: the signal may have interrupted code that holds any lock.
            self._hangup = True

        before = signal.signal(signal.SIGHUP, handle)
        self._start()

        def restore() -> None:
            signal.signal(signal.SIGHUP, before if before is not None else signal.SIG_DFL)

        return restore

    def stop(self, timeout: float | timedelta = 5.0) -> bool:
        """End the thread; `current` keeps its last value.

        Args:
            timeout: Seconds to wait for a reload under way.

        Returns:
            Whether the thread is gone.

        Raises:
            InvalidArgument: ``timeout`` is negative.
        """
        limit = seconds("timeout", timeout, zero=True)
        self._idle = True
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(limit)
        return thread is None or not thread.is_alive()

    def __enter__(self) -> Watched[C]:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        names = ", ".join(source.name for source in self._recipe.sources)
        return f"<Watched {self._recipe.into.__name__} from {names or 'no source'}>"

    def _start(self) -> None:
        with self._gate:
            if self._idle or self._thread is not None:
                return
            # The thread holds no strong reference between looks: a Watched that everybody
            # dropped goes away and takes its thread along.
            self._thread = threading.Thread(
                target=_run,
                args=(weakref.ref(self), self._stop, self._clock, self._period),
                name="hastack-config",
                daemon=True,
            )
            self._thread.start()

    def _look(self) -> list[Hashable]:
        return [_version(source) for source in self._recipe.sources]

    def _settle(self, versions: list[Hashable]) -> None:
        """Wait until two looks agree: a file may be half written, a link half replaced."""
        for _ in range(_SETTLE_LOOKS):
            self._clock.wait(self._stop, _SETTLE_SECONDS)
            again = self._look()
            if again == versions or self._stop.is_set():
                return
            versions = again

    def _refuse(self, mistakes: tuple[ConfigMistake, ...]) -> None:
        text = "\n".join(f"  - {mistake}" for mistake in mistakes)
        _log.error("reload refused, the configuration stays as it was:\n%s", text)
        if RELOAD_FAILED.subscribers:
            RELOAD_FAILED.publish(ConfigReloadFailed(mistakes=mistakes))

    def _accept(self, new: C) -> tuple[str, ...]:
        old = self._current
        changed = changed_paths(old, new)
        if not changed:
            return ()
        for prepared in self._all_prepared(old, new):
            try:
                prepared.commit()
            except Exception:  # the others follow all the same: half a change would be worse
                _log.exception("a part did not take over what it had prepared: %r", prepared)
        self._current = new
        self._pending.append((old, new))
        if RELOADED.subscribers:
            RELOADED.publish(ConfigReloaded(changed=changed))
        self._deliver()
        return changed

    def _all_prepared(self, old: C, new: C) -> list[Prepared]:
        """What everybody has ready.

        Raises:
            ConfigError: Somebody has not; nobody is left with anything.
        """
        ready: list[Prepared] = []
        mistakes: list[ConfigMistake] = []
        for each in self._preparers:
            try:
                prepared = each.callback(old, new)
            except Exception as error:
                mistakes.append(ConfigMistake(each.path, str(error) or repr(error)))
            else:
                if prepared is not None:
                    ready.append(prepared)
        if not mistakes:
            return ready
        for prepared in ready:
            try:
                prepared.abort()
            except Exception:
                _log.exception("a part did not let go of what it had prepared: %r", prepared)
        refused = tuple(mistakes)
        self._refuse(refused)
        raise ConfigError("the change is refused", refused)

    def _deliver(self) -> None:
        # A subscriber may reload in turn; its change waits until everybody has seen this one.
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._pending:
                old, new = self._pending.popleft()
                for subscriber in self._subscribers:
                    subscriber.call(old, new)
        finally:
            self._delivering = False


@final
@attrs.frozen(eq=False)
class _Preparer(Generic[C]):
    """Somebody with a say, told apart by identity."""

    path: str
    callback: Callable[[C, C], Prepared | None]


@final
class _Subscriber(Generic[C]):
    """One subscription, told apart by identity."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[C, C], object]) -> None:
        self._callback = callback

    def call(self, old: C, new: C) -> None:
        try:
            self._callback(old, new)
        except Exception:
            _log.exception("configuration subscriber %r raised", self._callback)


_alive: weakref.WeakSet[Watched[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for watched in list(_alive):
        watched._reset()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _run(
    reference: weakref.ref[Watched[Any]], stop: threading.Event, clock: Clock, period: float
) -> None:
    while not clock.wait(stop, period):
        watched = reference()
        if watched is None:
            return
        try:
            watched.poll()
        except Exception:
            _log.exception("looking at the configuration failed")
        del watched


def _version(source: Any) -> Hashable:
    try:
        return cast("Hashable", source.version())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def changed_paths(old: object, new: object) -> tuple[str, ...]:
    """Dotted paths of the values that differ, sorted; added and removed ones included."""
    before, after = dict(leaves(old)), dict(leaves(new))
    missing = object()
    paths = {*before, *after}
    return tuple(
        sorted(dotted(p) for p in paths if before.get(p, missing) != after.get(p, missing))
    )


@overload
def watch(
    *sources: SourceLike,
    env: Mapping[str, str] | None = ...,
    env_prefix: str = ...,
    override: Mapping[str, Any] | None = ...,
    period: float | timedelta = ...,
    clock: Clock = ...,
) -> Watched[Config]: ...


@overload
def watch(
    *sources: SourceLike,
    into: type[C],
    env: Mapping[str, str] | None = ...,
    env_prefix: str = ...,
    override: Mapping[str, Any] | None = ...,
    period: float | timedelta = ...,
    clock: Clock = ...,
) -> Watched[C]: ...


def watch(
    *sources: SourceLike,
    into: type[Any] = Config,
    env: Mapping[str, str] | None = os.environ,
    env_prefix: str = "HASTACK_",
    override: Mapping[str, Any] | None = None,
    period: float | timedelta = 1.0,
    clock: Clock = SYSTEM_CLOCK,
) -> Watched[Any]:
    """Load as `hastack.config.load` does, and follow the sources from then on.

    Replace a file by renaming a new one over it: then no reader ever meets half of it. Kubernetes
    does the same with the symbolic link of a ConfigMap. A file that is written in place is read
    once two looks in a row found it unchanged.

    Args:
        *sources: As for `load`.
        into: As for `load`.
        env: As for `load`; taken once, since other processes cannot change it.
        env_prefix: As for `load`.
        override: As for `load`.
        period: Seconds between two looks at the sources.
        clock: Time source.

    Returns:
        The watched configuration.

    Raises:
        ConfigError: The first load found mistakes.
        InvalidArgument: An argument is of the wrong kind.

    Example:
        >>> from hastack import config
        >>> with config.watch(env=None, override={"health": {"cache_ttl": "2s"}}) as watched:
        ...     watched.current.health.cache_ttl
        2.0
    """
    pause = seconds("period", period)
    taken = None if env is None else dict(env)
    plan = recipe(sources, into, taken, env_prefix, override)
    # Before reading: a change between the two is then seen by the next look.
    versions = [_version(source) for source in plan.sources]
    return Watched(plan, plan.attempt().unwrap(), versions, pause, clock)
