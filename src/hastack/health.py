"""Is the service alive, started, ready: checks, heartbeats and their verdicts.

Three questions, as Kubernetes asks them, with three different answers:

- *liveness*: would a restart help? Answered from memory alone, never by asking a dependency,
  and still true while the service drains. It turns false when an event loop or a thread that
  is being watched gave no sign of life for too long.
- *readiness*: should work be sent here? Asks the checks (in parallel, each with its own time
  limit, cached, one run at a time) and the `hastack.lifecycle` phase.
- *startup*: has it ever been ready?

The endpoints ``/healthz``, ``/readyz``, ``/startupz`` and ``/metrics`` come with
`hastack.contrib.asgi`, `hastack.contrib.wsgi` and `hastack.contrib.health_server`; the gRPC
health protocol with `hastack.contrib.grpc_health`.

Example:
    >>> from hastack.health import Health
    >>> health = Health()
    >>> @health.check("db", ttl=5.0)
    ... def db() -> None:
    ...     raise ConnectionRefusedError("port 5432")
    >>> verdict = health.readiness()
    >>> bool(verdict), verdict.failing
    (False, ('db: ConnectionRefusedError: port 5432',))
    >>> bool(health.liveness())
    True
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar, final

import attrs

from . import context as _context
from ._core import _validate
from ._core._alive import track
from ._core._clock import SYSTEM_CLOCK
from ._core._errors import InvalidArgument
from ._core._flag import Flag
from ._health_verdict import CheckResult, CheckState, Pulse, Status, Verdict, judge
from ._lifecycle._machine import Phase
from ._lifecycle._steps import Steps
from .events import Event, topic

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from ._core._validate import Seconds
    from .lifecycle import Lifecycle
    from .typing import Clock

    Check = Callable[[], Any]

__all__ = ("CheckResult", "Health", "HealthChanged", "Heartbeat", "Status", "Verdict")

F = TypeVar("F", bound="Check")

_KINDS = frozenset({"readiness", "startup"})


@attrs.frozen(kw_only=True)
class HealthChanged(Event):
    """A check turned good or bad.

    Attributes:
        name: The service.
        check: The check.
        status: What it turned to: PASS, or FAIL (critical) or DEGRADED (not critical).
        detail: Why.
    """

    name: str
    check: str
    status: Status
    detail: str


_CHANGED = topic(HealthChanged)


@final
class Heartbeat:
    """Signs of life of one thread; get it from `Health.heartbeat`."""

    def __init__(self, pulse: Pulse, clock: Clock, close: Callable[[], None]) -> None:
        self._pulse = pulse
        self._clock = clock
        self.close = close

    def beat(self) -> None:
        """Say that the thread is alive: one clock reading and one store."""
        self._pulse.beat(self._clock.monotonic())


@attrs.define(eq=False)
class _Flight:
    """One run of a check."""

    began: float
    deadline: float
    landed: Flag = attrs.field(factory=Flag)
    counted: bool = False  # as a failure, since its time was over


@attrs.define(eq=False)
class _Entry:
    call: Check
    state: CheckState
    timeout: float
    on: frozenset[str]
    flight: _Flight | None = None


@final
class Health:
    """The checks and heartbeats of one service, and the verdicts about it.

    Safe from every thread and any number of event loops. A forked child keeps the results and
    forgets the runs of its parent.

    Args:
        name: Name of the service, in events.
        lifecycle: Whose phase decides about readiness and startup as well.
        check_timeout: Seconds until a run of a check counts as bad. This and the next three
            hold for checks that say nothing else; see `add_check`.
        cache_ttl: Seconds for which a check's result is given again without asking.
        failures: Bad results in a row until a check counts as bad.
        successes: Good results in a row until it counts as good again.
        loop_blocked_after: Seconds without a turn of a watched event loop after which liveness
            fails.
        clock: Source of time.

    Raises:
        InvalidArgument: A number is out of range or the name is empty.

    Example:
        The options are the fields of `hastack.config.HealthConfig`.

        >>> import attrs
        >>> from hastack import config
        >>> from hastack.health import Health
        >>> settings = config.load(env={"HASTACK_HEALTH__FAILURES": "3"})
        >>> health = Health("orders", **attrs.asdict(settings.health))
    """

    def __init__(
        self,
        name: str = "service",
        *,
        lifecycle: Lifecycle | None = None,
        check_timeout: Seconds = 1.0,
        cache_ttl: Seconds = 1.0,
        failures: int = 2,
        successes: int = 1,
        loop_blocked_after: Seconds = 5.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = _validate.text("name", name)
        self.lifecycle = lifecycle
        self._timeout = _validate.seconds("check_timeout", check_timeout)
        self._ttl = _validate.seconds("cache_ttl", cache_ttl, zero=True)
        self._failures = _validate.integer("failures", failures)
        self._successes = _validate.integer("successes", successes)
        self._blocked_after = _validate.seconds("loop_blocked_after", loop_blocked_after)
        self._clock = clock
        self._checks: dict[str, _Entry] = {}
        self._pulses: tuple[Pulse, ...] = ()
        self._loops: dict[asyncio.AbstractEventLoop, _LoopWatch] = {}
        self._held: dict[str, str] = {}
        self._started = False
        self._steps = Steps()
        self._lock = threading.Lock()
        _all.add(self)
        track(self)

    def __repr__(self) -> str:
        return f"<Health {self.name!r}, {len(self._checks)} checks>"

    # Checks -----------------------------------------------------------------------------

    def check(
        self,
        name: str,
        *,
        critical: bool = True,
        timeout: Seconds | None = None,
        ttl: Seconds | None = None,
        failures: int | None = None,
        successes: int | None = None,
        on: Iterable[str] = ("readiness",),
    ) -> Callable[[F], F]:
        """Register a function as a check; see `add_check` for the arguments and errors."""
        _validate.text("name", name)  # not only when the decorator is used: @health.check, bare

        def register(call: F) -> F:
            self.add_check(
                name,
                call,
                critical=critical,
                timeout=timeout,
                ttl=ttl,
                failures=failures,
                successes=successes,
                on=on,
            )
            return call

        return register

    def add_check(
        self,
        name: str,
        call: Check,
        /,
        *,
        critical: bool = True,
        timeout: Seconds | None = None,
        ttl: Seconds | None = None,
        failures: int | None = None,
        successes: int | None = None,
        on: Iterable[str] = ("readiness",),
    ) -> None:
        """Register a check.

        What is left ``None`` is what the constructor of this object was given.

        Args:
            name: Unique; appears in ``/readyz``.
            call: ``def`` (run on a thread) or ``async def`` (run on the loop of `watch_loop`,
                or one of our own). Bad when it raises or returns False; a returned string is
                shown. A context with the time limit is current inside.
            critical: Whether a bad result makes the service not ready, or only degraded.
            timeout: Seconds until a run counts as bad. It is not started anew while it hangs.
            ttl: Seconds for which a result is given again without asking.
            failures: Bad results in a row until it counts as bad. The first result of all
                counts at once.
            successes: Good results in a row until it counts as good again.
            on: ``"readiness"``, ``"startup"`` or both.

        Raises:
            InvalidArgument: A number is out of range, the name is taken or empty, or ``call``
                is not callable.
        """
        kinds = frozenset(on)
        if not kinds or not kinds <= _KINDS:
            raise InvalidArgument("on", on, "some of 'readiness' and 'startup'")
        if not callable(call):
            raise InvalidArgument("call", call, "a callable without arguments")
        _validate.text("name", name)
        entry = _Entry(
            call,
            CheckState(
                name,
                critical,
                self._failures if failures is None else _validate.integer("failures", failures),
                self._successes if successes is None else _validate.integer("successes", successes),
                self._ttl if ttl is None else _validate.seconds("ttl", ttl, zero=True),
            ),
            self._timeout if timeout is None else _validate.seconds("timeout", timeout),
            kinds,
        )
        with self._lock:
            if name in self._checks:
                raise InvalidArgument("name", name, "a name that is not taken")
            self._checks[name] = entry

    def hold(self, name: str, why: str = "held") -> Callable[[], None]:
        """Make the service not ready until the returned function is called.

        Args:
            name: Who holds; shown in ``/readyz``.
            why: The reason, for people.
        """
        with self._lock:
            self._held = {**self._held, name: why}

        def release() -> None:
            with self._lock:
                self._held = {n: w for n, w in self._held.items() if n != name}

        return release

    # Signs of life ----------------------------------------------------------------------

    def heartbeat(self, name: str, *, max_age: Seconds) -> Heartbeat:
        """Watch a thread: liveness fails when it does not `beat` for ``max_age`` seconds."""
        limit = _validate.seconds("max_age", max_age)
        pulse = Pulse(name, limit, self._clock.monotonic())
        with self._lock:
            self._pulses = (*self._pulses, pulse)

        def close() -> None:
            with self._lock:
                self._pulses = tuple(each for each in self._pulses if each is not pulse)

        return Heartbeat(pulse, self._clock, close)

    def watch_loop(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        name: str = "event loop",
        blocked_after: Seconds | None = None,
    ) -> Callable[[], None]:
        """Watch an event loop; asynchronous checks run on it from now on.

        The loop stores the time every ``blocked_after / 10`` seconds (at most every second),
        and any other thread can tell from that when it is blocked. Watching a loop again only
        changes the limit, if one is given.

        Args:
            loop: The loop; the running one by default.
            name: Shown when it is blocked.
            blocked_after: Seconds without a turn of the loop after which liveness fails;
                by default the ``loop_blocked_after`` of this object.

        Returns:
            A function that ends the watch.
        """
        given = _validate.optional_seconds("blocked_after", blocked_after)
        limit = self._blocked_after if given is None else given
        if loop is None:
            import asyncio

            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                accepted = "an event loop, when called from outside of a running one"
                raise InvalidArgument("loop", None, accepted) from None
        with self._lock:
            # Never changed in place: liveness reads it without the lock.
            self._loops = {k: w for k, w in self._loops.items() if not k.is_closed()}
            watch = self._loops.get(loop)
            if watch is None:
                watch = _LoopWatch(loop, Pulse(name, limit, 0.0), self._clock)
                self._loops = {**self._loops, loop: watch}
                begin = True
            else:
                if given is not None:
                    watch.pulse.max_age = given
                begin = False
            self._steps = Steps(loop)
        if begin:
            watch.begin()

        def end() -> None:
            watch.end()
            with self._lock:
                self._loops = {k: w for k, w in self._loops.items() if w is not watch}
                if self._steps.loop is loop:
                    self._steps = Steps()

        return end

    # Verdicts ---------------------------------------------------------------------------

    def liveness(self) -> Verdict:
        """Would a restart help? From memory, in microseconds, without a lock."""
        now = self._clock.monotonic()
        against = [each.against(now) for each in self._pulses]
        against += [watch.against(now) for watch in self._loops.values()]
        return judge((), [each for each in against if each is not None])

    def readiness(self) -> Verdict:
        """Should work be sent here? Runs what is not cached; returns within the longest timeout."""
        against = self._against_readiness()
        flights = [] if against else self._launch("readiness")
        for flight in flights:
            self._clock.wait(flight.landed.event, flight.deadline - self._clock.monotonic())
        return self._judge("readiness", against)

    async def readiness_async(self) -> Verdict:
        """Like `readiness`, without blocking the loop."""
        against = self._against_readiness()
        await self._landed([] if against else self._launch("readiness"))
        return self._judge("readiness", against)

    def last_readiness(self) -> Verdict:
        """The readiness that is known already; asks nobody."""
        return self._judge("readiness", self._against_readiness())

    def startup(self) -> Verdict:
        """Has it been up once? True for good from then on."""
        if self._started:
            return judge(())
        for flight in self._launch("startup"):
            self._clock.wait(flight.landed.event, flight.deadline - self._clock.monotonic())
        return self._judge_startup()

    async def startup_async(self) -> Verdict:
        """Like `startup`, without blocking the loop."""
        if self._started:
            return judge(())
        await self._landed(self._launch("startup"))
        return self._judge_startup()

    def _watched(self) -> list[Pulse]:
        """Everything that can speak against being alive."""
        loops = [watch.pulse for watch in self._loops.values() if watch.loop.is_running()]
        return [*self._pulses, *loops]

    # Inside -----------------------------------------------------------------------------

    def _against_readiness(self) -> list[str]:
        against = [f"{name}: {why}" for name, why in self._held.items()]
        life = self.lifecycle
        if life is not None and not life.ready:
            phase = life.phase
            why = "shutdown requested" if phase is Phase.SERVING else phase.value
            against.append(f"lifecycle: {why}")
        return against

    def _judge(self, kind: str, against: Iterable[str]) -> Verdict:
        now = self._clock.monotonic()
        changes: list[HealthChanged] = []
        with self._lock:
            for entry in self._checks.values():
                self._count_overdue(entry, now, changes)
            results = [e.state.result(now) for e in self._checks.values() if kind in e.on]
        self._publish(changes)
        return judge(results, against)

    def _judge_startup(self) -> Verdict:
        life = self.lifecycle
        against = []
        if life is not None and life.phase in {Phase.NEW, Phase.STARTING}:
            against.append(f"lifecycle: {life.phase.value}")
        verdict = self._judge("startup", against)
        self._started = bool(verdict)
        return verdict

    def _launch(self, kind: str) -> list[_Flight]:
        """Begin every check of ``kind`` that is due; all runs to wait for."""
        now = self._clock.monotonic()
        flights: list[_Flight] = []
        begun: list[tuple[_Entry, _Flight]] = []
        changes: list[HealthChanged] = []
        with self._lock:
            for entry in self._checks.values():
                if kind not in entry.on or entry.state.fresh(now):
                    continue
                flight = entry.flight
                if flight is None:
                    flight = entry.flight = _Flight(now, now + entry.timeout)
                    begun.append((entry, flight))
                elif now >= flight.deadline:
                    self._count_overdue(entry, now, changes)
                    continue
                flights.append(flight)
        self._publish(changes)
        for entry, flight in begun:
            self._run(entry, flight)
        return flights

    def _forget_parent(self) -> None:
        # The parent's runs and loops do not exist in a forked child, and its lock may be held.
        self._lock = threading.Lock()
        self._loops = {}
        self._steps = Steps()
        for entry in self._checks.values():
            entry.flight = None

    def _run(self, entry: _Entry, flight: _Flight) -> None:
        def ended(error: BaseException | None, result: object) -> None:
            now = self._clock.monotonic()
            changes: list[HealthChanged] = []
            with self._lock:
                if entry.flight is flight:
                    entry.flight = None
                if not flight.counted:
                    flight.counted = True
                    ok, detail = _understand(error, result)
                    self._record(entry, now, ok, detail, now - flight.began, changes)
            flight.landed.set()
            self._publish(changes)

        ctx = _context.timeout(entry.timeout, parent=_context.background(clock=self._clock))
        self._steps.run(entry.call, ended, label=f"health-{entry.state.name}", ctx=ctx, own=True)

    def _count_overdue(self, entry: _Entry, now: float, changes: list[HealthChanged]) -> None:
        """Record a run whose time is over as bad; again for every ttl that it goes on."""
        flight = entry.flight
        if flight is None or now < flight.deadline:
            return
        if not flight.counted:
            flight.counted = True
            self._record(entry, now, False, f"no answer within {entry.timeout:g} s", None, changes)
        elif not entry.state.fresh(now):
            detail = f"still no answer after {now - flight.began:.1f} s"
            self._record(entry, now, False, detail, None, changes)

    def _record(
        self,
        entry: _Entry,
        now: float,
        ok: bool,
        detail: str,
        took: float | None,
        changes: list[HealthChanged],
    ) -> None:
        if entry.state.record(now, ok, detail, took) and _CHANGED.subscribers:
            bad = Status.FAIL if entry.state.critical else Status.DEGRADED
            status = Status.PASS if ok else bad
            check = entry.state.name
            changes.append(HealthChanged(name=self.name, check=check, status=status, detail=detail))

    @staticmethod
    def _publish(changes: list[HealthChanged]) -> None:
        # Never under the lock: a subscriber may ask for a verdict.
        for each in changes:
            _CHANGED.publish(each)

    async def _landed(self, flights: list[_Flight]) -> None:
        import asyncio

        for flight in flights:
            left = flight.deadline - self._clock.monotonic()
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    await flight.landed.wait()
            except TimeoutError:
                pass


class _LoopWatch:
    """Has a loop store the time again and again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pulse: Pulse, clock: Clock) -> None:
        self.loop = loop
        self.pulse = pulse
        self._clock = clock
        self._ended = False

    def begin(self) -> None:
        self.pulse.last = self._clock.monotonic()
        self.loop.call_soon_threadsafe(self._beat)

    def end(self) -> None:
        self._ended = True

    def against(self, now: float) -> str | None:
        # A loop that was stopped on purpose is not blocked.
        return self.pulse.against(now) if self.loop.is_running() else None

    def _beat(self) -> None:
        self.pulse.beat(self._clock.monotonic())
        if not self._ended:
            self.loop.call_later(min(self.pulse.max_age / 10.0, 1.0), self._beat)


def _understand(error: BaseException | None, result: object) -> tuple[bool, str]:
    if error is not None:
        return False, f"{type(error).__name__}: {error}"[:200]
    if result is False:
        return False, "returned False"
    return True, result[:200] if isinstance(result, str) else ""


_all: weakref.WeakSet[Health] = weakref.WeakSet()


def _after_fork() -> None:
    for health in list(_all):
        health._forget_parent()


os.register_at_fork(after_in_child=_after_fork)
