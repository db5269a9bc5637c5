"""Ordered start, readiness, lame duck, drain and stop of a service, under one deadline.

A service is made of components that need each other. They start in the order of their needs
and stop in reverse. When the process is told to end (SIGTERM, SIGINT, or `Lifecycle.shutdown`):

1. readiness goes false at once, and the service keeps serving for the *lame-duck* time, so that
   balancers notice and stop sending;
2. components *drain*: listeners close, what is in flight ends;
3. the root context is cancelled with the cause;
4. components *stop* in reverse order.

Each part has its own time and `Lifecycle.budget` is their sum; what did not stop in time is
named in the `ShutdownReport`. A second signal aborts at once.

Lame duck as in "Site Reliability Engineering" (Beyer et al., 2016), chapter 20; the order of
the rest as in Kubernetes' pod termination, which sends SIGTERM while traffic still arrives.

Example:
    >>> from hastack.lifecycle import Lifecycle
    >>> life = Lifecycle("orders", lame_duck=0.0)
    >>> life.add("db", start=lambda: print("db up"), stop=lambda: print("db down"))
    >>> life.add("http", start=lambda: print("http up"), stop=lambda: print("http down"),
    ...          depends_on=["db"])
    >>> with life:
    ...     print(life.phase.value)
    db up
    http up
    serving
    http down
    db down
    >>> life.report.ok
    True
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from typing import TYPE_CHECKING, Any, final

from . import context as _context
from ._core import _validate
from ._core._alive import track
from ._core._clock import SYSTEM_CLOCK
from ._core._errors import (
    InvalidArgument,
    LifecycleError,
    ShutdownRequested,
    StartFailed,
    StopFailed,
)
from ._lifecycle import _order
from ._lifecycle._component import Added, Component
from ._lifecycle._conductor import Abort, Conductor, Shutdown
from ._lifecycle._events import (
    ComponentFailed,
    ComponentStarted,
    ComponentStopped,
    PhaseChanged,
    ShutdownFinished,
    ShutdownStarted,
)
from ._lifecycle._machine import Budget, Machine, Phase, Spec, Step
from ._lifecycle._overrun import Overrun
from ._lifecycle._report import ShutdownReport
from ._lifecycle._signals import SignalWatch
from ._lifecycle._steps import is_async

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from ._core._validate import Seconds
    from .context import Context
    from .typing import Clock

__all__ = (
    "Component",
    "ComponentFailed",
    "ComponentStarted",
    "ComponentStopped",
    "Lifecycle",
    "Phase",
    "PhaseChanged",
    "ShutdownFinished",
    "ShutdownReport",
    "ShutdownRequested",
    "ShutdownStarted",
    "Step",
)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@final
class Lifecycle:
    """One service: its components, its phase, its root context and its end.

    All decisions are taken by one pure machine, driven by one thread of its own. A shutdown
    therefore keeps its times even while the event loop is blocked. Synchronous steps run on
    threads, asynchronous ones on the loop that runs the service (`run_async`, ``async with``),
    or on a loop thread of their own when the service is synchronous. Inside ``start`` and
    ``ready`` the root context is current; inside ``drain`` and ``stop`` a context with the
    deadline of that phase is.

    Args:
        name: Name of the service, in events and logs.
        lame_duck: Seconds to go on serving after readiness went false. Default:
            ``probe_period * probe_failures``, the time a prober needs to notice.
        probe_period: Seconds between two readiness probes (Kubernetes: ``periodSeconds``).
        probe_failures: Failed probes until traffic stops (``failureThreshold``).
        drain: Seconds for listeners to close and for what is in flight to end.
        stop: Seconds for all components together to stop. Along a chain of components each
            gets an equal share; one that overruns its share no longer holds up the others.
        start: Default seconds for one component to start and become ready.
        parent: Context above the root; when it ends, so does the service.
        clock: Source of time.

    Raises:
        InvalidArgument: A time is negative or not finite, or ``name`` is empty.
    """

    def __init__(
        self,
        name: str = "service",
        *,
        lame_duck: Seconds | None = None,
        probe_period: Seconds = 10.0,
        probe_failures: int = 3,
        drain: Seconds = 20.0,
        stop: Seconds = 10.0,
        start: Seconds = 60.0,
        parent: Context | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        period = _validate.seconds("probe_period", probe_period)
        failures = _validate.integer("probe_failures", probe_failures)
        self.name = _validate.text("name", name)
        self.context: Context = _context.with_cancel(parent or _context.background(clock=clock))
        self._times = Budget(
            period * failures
            if lame_duck is None
            else _validate.seconds("lame_duck", lame_duck, zero=True),
            _validate.seconds("drain", drain, zero=True),
            _validate.seconds("stop", stop, zero=True),
        )
        self._start_timeout = _validate.seconds("start", start)
        self._clock = clock
        self._added: dict[str, Added] = {}
        self._phase = Phase.NEW
        self._asked = False
        # put() is reentrant: a signal handler may use it on top of anything.
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._conductor: Conductor | None = None
        self._signals: SignalWatch | None = None
        self._overrun: Overrun | None = None
        self._listeners: tuple[Callable[[Phase], object], ...] = ()
        self._lock = threading.Lock()
        track(self)

    # Describing the service -------------------------------------------------------------

    def add(
        self,
        component: str | Component,
        /,
        *,
        start: Callable[[], Any] | None = None,
        ready: Callable[[], Any] | None = None,
        drain: Callable[[], Any] | None = None,
        stop: Callable[[], Any] | None = None,
        depends_on: Iterable[str] = (),
        start_timeout: Seconds | None = None,
    ) -> None:
        """Add a component: a name with functions, or an object with a name and methods.

        Args:
            component: The name, or a `Component`.
            start: Brings it up; returns when that is done. One that raises is not stopped.
            ready: Asked after ``start`` until it returns anything but False; may also wait.
            drain: Stops taking new work and returns when what is in flight has ended.
            stop: Lets go of everything.
            depends_on: Names of the components that must be ready before this one starts and
                that stop after it. They may be added later.
            start_timeout: Seconds for ``start`` and ``ready`` together.

        Raises:
            InvalidArgument: The name is taken or empty, a step is not callable, or
                ``depends_on`` closes a cycle.
            LifecycleError: The service has started already.
        """
        if isinstance(depends_on, str):  # the classic: its letters would be the names
            raise InvalidArgument("depends_on", depends_on, "a list of names, such as ['db']")
        needs = tuple(depends_on)
        given = {Step.START: start, Step.READY: ready, Step.DRAIN: drain, Step.STOP: stop}
        if isinstance(component, str):
            name = component
        else:
            name = component.name
            needs += tuple(getattr(component, "depends_on", ()))
            given = {
                step: call if call is not None else getattr(component, step.value, None)
                for step, call in given.items()
            }
        _validate.text("component", name)
        calls = {step: call for step, call in given.items() if call is not None}
        for step, call in calls.items():
            if not callable(call):
                raise InvalidArgument(step.value, call, "a callable without arguments, or None")
        limit = self._start_timeout
        if start_timeout is not None:
            limit = _validate.seconds("start_timeout", start_timeout)
        with self._lock:
            if self._phase is not Phase.NEW:
                raise LifecycleError(f"{self.name} has started: {name} comes too late")
            if name in self._added:
                raise InvalidArgument("component", name, "a name that is not taken")
            graph = {each: added.spec.depends_on for each, added in self._added.items()}
            loop = _order.cycle({**graph, name: needs})
            if loop is not None:
                raise InvalidArgument("depends_on", " -> ".join(loop), "no cycle of components")
            self._added[name] = Added(Spec(name, needs, frozenset(calls), limit), calls)

    def add_worker(
        self, name: str, target: Callable[[], Any], /, *, depends_on: Iterable[str] = ()
    ) -> None:
        """Run ``target`` in the background while the service lives.

        A ``def`` runs on a thread of its own, an ``async def`` as a task; the root context is
        current in both. When ``target`` raises while the service is up, the service shuts
        down with that error as cause. Stopping waits for it to end; it learns of the stop
        through its context, and a task is cancelled by it.

        Args:
            name: Name of the component.
            target: What to run.
            depends_on: As in `add`.

        Raises:
            InvalidArgument: As in `add`.
            LifecycleError: The service has started already.
        """
        if not callable(target):
            raise InvalidArgument("target", target, "a callable without arguments")
        done = threading.Event()

        def ended(error: BaseException | None, result: object) -> None:
            done.set()
            if error is not None and self.context.err() is None:
                self.shutdown(error)

        def start() -> None:
            assert self._conductor is not None
            ctx = _context.with_cancel(self.context)
            self._conductor.steps.run(target, ended, label=name, ctx=ctx, own=True)

        def stop() -> None:
            if not done.wait(_context.current().remaining()):
                raise TimeoutError(f"{name} still runs")

        self.add(name, start=start, stop=stop, depends_on=depends_on)

    def __repr__(self) -> str:
        return f"<Lifecycle {self.name!r} {self._phase.value}>"

    # Looking at it ----------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """Where the service is in its life."""
        return self._phase

    @property
    def ready(self) -> bool:
        """Whether the service wants new work: serving, and nobody has asked it to end."""
        return self._phase is Phase.SERVING and not self._asked

    @property
    def components(self) -> tuple[str, ...]:
        """Names of all components, as they were added."""
        return tuple(self._added)

    @property
    def budget(self) -> float:
        """Seconds a whole shutdown may take: lame duck + drain + stop.

        Give the process somewhat more before it is killed, for example in Kubernetes'
        ``terminationGracePeriodSeconds``.
        """
        return self._times.total

    @property
    def times(self) -> Budget:
        """The parts of `budget`: ``lame_duck``, ``drain`` and ``stop`` in seconds."""
        return self._times

    @property
    def report(self) -> ShutdownReport | None:
        """How the service ended; ``None`` before that."""
        return None if self._conductor is None else self._conductor.report

    def on_phase(self, callback: Callable[[Phase], object], /) -> Callable[[], None]:
        """Call ``callback`` with each phase entered from now on, on the lifecycle's thread.

        Returns:
            A function that ends this; calling it again does nothing.
        """
        with self._lock:
            self._listeners = (*self._listeners, callback)

        def remove() -> None:
            with self._lock:
                self._listeners = tuple(c for c in self._listeners if c is not callback)

        return remove

    # Living -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start all components and return when all are ready.

        Signals are not touched; ``with``, `run` and their asynchronous forms do that.

        Raises:
            StartFailed: A component did not start, or a shutdown came first; those that had
                started were stopped. The component's error is the ``__cause__``.
            InvalidArgument: ``depends_on`` names a component that was never added.
            LifecycleError: It was started before.
        """
        conductor = self._launch(None)
        self._wait_for(conductor.serving.event, None)  # each start has its own deadline
        self._raise_start_failure(conductor)

    async def start_async(self) -> None:
        """Like `start`, with asynchronous components on the running loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        conductor = self._launch(loop)
        if self._signals is not None and self._clock is SYSTEM_CLOCK:
            self._signals.keep_awake(loop)
        await conductor.serving.wait()
        self._raise_start_failure(conductor)

    def shutdown(self, cause: BaseException | None = None) -> None:
        """Ask the service to end, and return at once. Any thread and any signal handler may.

        Args:
            cause: Why; the root context is cancelled with it. Default: `ShutdownRequested`.
        """
        self._asked = True
        self._inbox.put(Shutdown(cause or ShutdownRequested()))

    def abort(self) -> None:
        """Give up everything that still runs and end now; what is still up is reported."""
        self._asked = True
        self._inbox.put(Abort())

    def wait(self, timeout: Seconds | None = None) -> ShutdownReport | None:
        """Block until the service has ended.

        Args:
            timeout: Seconds; ``None`` waits as long as the service lives.

        Returns:
            The report, or ``None`` when the time was over first.

        Raises:
            LifecycleError: It was not started, or in another process.
        """
        limit = _validate.optional_seconds("timeout", timeout, zero=True)
        self._wait_for(self._running().finished.event, limit)
        return self.report

    async def wait_async(self) -> ShutdownReport:
        """Wait until the service has ended. Cancelling this ends nothing but the wait.

        Raises:
            LifecycleError: It was not started, or in another process.
        """
        conductor = self._running()
        await conductor.finished.wait()
        assert conductor.report is not None
        return conductor.report

    def run(
        self, *, signals: Iterable[int] = _SIGNALS, overrun: Seconds | None = 2.0
    ) -> ShutdownReport:
        """Start, serve until told to end, shut down.

        With asynchronous components this is ``asyncio.run(self.run_async())``.

        Args:
            signals: Those that ask for the shutdown; only in the main thread. The previous
                handlers are put back afterwards.
            overrun: Seconds after the end of a shutdown at which the process exits with
                status 70 when this method could still not return, and again for the end of
                the loop and of the interpreter, which wait for every thread of an executor;
                ``None`` waits for good. Only where the signals are owned.

        Raises:
            StartFailed: A component did not start. A shutdown before everything was up is no
                failure here.
            StopFailed: Something did not stop within the budget, or raised.
        """
        if any(is_async(call) for each in self._added.values() for call in each.calls.values()):
            import asyncio

            return asyncio.run(self.run_async(signals=signals, overrun=overrun))
        self._take_signals(signals, _validate.optional_seconds("overrun", overrun, zero=True))
        try:
            self.start()
            self.wait()
        except StartFailed as failure:
            if failure.component is not None:
                raise
            # Told to end before everything was up: an orderly end all the same.
        finally:
            self._release()
        return self._result()

    async def run_async(
        self, *, signals: Iterable[int] = _SIGNALS, overrun: Seconds | None = 2.0
    ) -> ShutdownReport:
        """Like `run`, on the running loop. Cancelling it asks for a shutdown and waits for it."""
        self._take_signals(signals, _validate.optional_seconds("overrun", overrun, zero=True))
        try:
            try:
                await self.start_async()
                await self.wait_async()
            except StartFailed as failure:
                if failure.component is not None:
                    raise
            except BaseException as error:
                await self._end_async(error)
                raise
        finally:
            self._release()
        return self._result()

    def __enter__(self) -> Lifecycle:
        self._take_signals(_SIGNALS)
        try:
            self.start()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            self.shutdown(error or ShutdownRequested("the block ended"))
            self.wait()  # ends with the budget
        finally:
            self._release()
        if error is None:
            self._result()

    async def __aenter__(self) -> Lifecycle:
        self._take_signals(_SIGNALS)
        try:
            await self.start_async()
        except BaseException as error:
            await self._end_async(error)
            self._release()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            await self._end_async(error or ShutdownRequested("the block ended"))
        finally:
            self._release()
        if error is None:
            self._result()

    # Inside -----------------------------------------------------------------------------

    def _launch(self, loop: asyncio.AbstractEventLoop | None) -> Conductor:
        specs = [added.spec for added in self._added.values()]
        lost = _order.missing({spec.name: spec.depends_on for spec in specs})
        if lost:
            raise InvalidArgument(
                "depends_on",
                ", ".join(f"{name} -> {need}" for name, need in lost),
                "names of added components",
            )
        with self._lock:
            if self._conductor is not None:
                raise LifecycleError(f"{self.name} was started before")
            conductor = self._conductor = Conductor(
                self.name,
                Machine(specs, self._times),
                {name: added.calls for name, added in self._added.items()},
                inbox=self._inbox,
                root=self.context,
                clock=self._clock,
                loop=loop,
                entered=self._entered,
                overrun=self._overrun,
            )
        # A parent that ends takes the service with it; our own cancel at the end is too late
        # to count.
        self.context.after_func(lambda: self.shutdown(self.context.cause()))
        conductor.start()
        return conductor

    def _entered(self, phase: Phase) -> None:
        self._phase = phase
        for callback in self._listeners:
            try:
                callback(phase)
            except Exception as error:
                threading.excepthook(
                    threading.ExceptHookArgs(
                        (type(error), error, error.__traceback__, threading.current_thread())
                    )
                )

    def _running(self) -> Conductor:
        conductor = self._conductor
        if conductor is None:
            raise LifecycleError(f"{self.name} was not started")
        if conductor.pid != os.getpid():
            raise LifecycleError(f"{self.name} was started in another process, before a fork")
        return conductor

    def _raise_start_failure(self, conductor: Conductor) -> None:
        failure = conductor.start_failure()
        if failure is not None:
            raise failure

    async def _end_async(self, cause: BaseException) -> None:
        """Shut down and wait, even while being cancelled; the second cancel aborts."""
        import asyncio

        if self._conductor is None:
            return
        self.shutdown(cause)
        pending = cause if isinstance(cause, asyncio.CancelledError) else None
        while not self._conductor.finished.event.is_set():
            try:
                await self._conductor.finished.wait()
            except asyncio.CancelledError as error:
                if pending is not None:
                    self.abort()
                pending = error
        if pending is not None and pending is not cause:
            raise pending

    def _wait_for(self, event: threading.Event, limit: float | None) -> None:
        signals = self._signals if self._clock is SYSTEM_CLOCK else None
        (signals or self._clock).wait(event, limit)

    def _take_signals(self, signals: Iterable[int], overrun: float | None = None) -> None:
        watch = SignalWatch(signals, self._signalled)
        if watch.install():
            self._signals = watch
            self._overrun = None if overrun is None else Overrun(self.name, overrun)

    def _signalled(self, signum: int, count: int) -> None:
        """Inside the handler: takes no lock."""
        if count == 1:
            name = signal.Signals(signum).name
            self.shutdown(ShutdownRequested(f"received {name}", signal=signum))
        else:
            self._inbox.put(Abort(signum))

    def _release(self) -> None:
        if self._conductor is not None:
            self._conductor.release()
        if self._signals is not None:
            self._signals.restore()
            self._signals = None

    def _result(self) -> ShutdownReport:
        report = self.report
        assert report is not None
        left = dict.fromkeys((*report.not_stopped, *report.not_drained))
        left.update(dict.fromkeys(name for name, _, _ in report.errors))
        if left or report.aborted:
            failure = StopFailed(f"{self.name} {report}", components=tuple(left), report=report)
            failure.__cause__ = report.errors[0][2] if report.errors else None
            raise failure
        return report
