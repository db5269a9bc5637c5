"""The thread that carries out what the machine decides."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import attrs

from hastack import context
from hastack._core._errors import StartFailed
from hastack._core._flag import Flag

from ._events import (
    COMPONENT_FAILED,
    COMPONENT_STARTED,
    COMPONENT_STOPPED,
    PHASE_CHANGED,
    SHUTDOWN_FINISHED,
    SHUTDOWN_STARTED,
    ComponentFailed,
    ComponentStarted,
    ComponentStopped,
    PhaseChanged,
    ShutdownFinished,
    ShutdownStarted,
)
from ._machine import CancelRoot, Enter, Finish, GiveUp, Machine, Phase, Run, Step
from ._steps import Steps

if TYPE_CHECKING:
    import asyncio
    import queue
    from collections.abc import Callable, Iterable, Mapping

    from hastack.context import Context
    from hastack.typing import Clock

    from ._machine import Action
    from ._overrun import Overrun
    from ._report import ShutdownReport

_log = logging.getLogger("hastack.lifecycle")


@attrs.frozen
class Shutdown:
    """Message: somebody wants an end."""

    cause: BaseException


@attrs.frozen
class Abort:
    """Message: end now. With a signal, end the process by it afterwards."""

    signum: int | None = None


@attrs.frozen
class _Done:
    name: str
    step: Step
    error: BaseException | None
    result: object


class Conductor:
    """Drives one `Machine` with real threads, tasks and time.

    Args:
        name: Name of the service.
        machine: Takes the decisions; touched by this object's thread only.
        calls: What to call for each step of each component.
        inbox: Messages; anybody may put one in, even a signal handler.
        root: The service's context.
        clock: Source of time.
        loop: Where asynchronous steps run, or ``None``.
        entered: Called with each phase.
        overrun: What ends a process that does not end by itself.
    """

    def __init__(
        self,
        name: str,
        machine: Machine,
        calls: Mapping[str, Mapping[Step, Callable[[], Any]]],
        *,
        inbox: queue.SimpleQueue[object],
        root: Context,
        clock: Clock,
        loop: asyncio.AbstractEventLoop | None,
        entered: Callable[[Phase], None],
        overrun: Overrun | None = None,
    ) -> None:
        self.serving = Flag()  # set as well when the start failed
        self.finished = Flag()
        self.report: ShutdownReport | None = None
        self.steps = Steps(loop)
        self._loop = loop
        self._released = threading.Event()
        self.pid = os.getpid()
        self._name = name
        self._machine = machine
        self._calls = calls
        self._inbox = inbox
        self._root = root
        self._clock = clock
        self._above = context.background(clock=clock)
        self._entered = entered
        self._overrun = overrun
        self._cancels: dict[tuple[str, Step], Callable[[], None]] = {}
        self._began: dict[tuple[str, Step], float] = {}
        self._served = False
        self._timer: tuple[float, Callable[[], None]] | None = None
        self._thread = threading.Thread(target=self._live, name="hastack-lifecycle", daemon=True)

    def start(self) -> None:
        """Begin; the thread ends by itself with the service."""
        self._thread.start()

    def release(self) -> None:
        """The main thread goes on; with ``overrun``, what is left of the process has a bound."""
        if self._overrun is not None and self.finished.event.is_set():
            self._overrun.bound_exit(self._loop)
        self._released.set()

    def start_failure(self) -> StartFailed | None:
        """Why the service is not up, once `serving` is set."""
        report = self.report
        if report is None or self._served:
            return None  # it was up, even if it is over by the time somebody asks
        if report.start_failed is None:
            failure = StartFailed(
                f"{self._name} was told to end while starting: {report.cause}", report=report
            )
        else:
            failure = StartFailed(
                f"{report.start_failed} of {self._name} did not start: {report.cause}",
                component=report.start_failed,
                report=report,
            )
        failure.__cause__ = report.cause
        return failure

    # The thread -------------------------------------------------------------------------

    def _live(self) -> None:
        aborted_by: int | None = None
        try:
            aborted_by = self._conduct()
        except Exception:
            # Nobody else would ever set the flags that everybody waits for.
            _log.exception("%s: the lifecycle failed; giving up", self._name)
            for action in self._machine.abort(self._clock.monotonic()):
                if isinstance(action, CancelRoot):
                    self._root.cancel(action.cause)
                elif isinstance(action, Finish):
                    self.report = action.report
        self._disarm()
        self.steps.close()
        self.finished.set()
        self.serving.set()
        if aborted_by is not None:
            os.kill(os.getpid(), aborted_by)
        if self._overrun is not None:
            self._overrun.watch(self._released)

    def _conduct(self) -> int | None:
        """Carry out decisions until the end; the signal that aborted, if one did."""
        aborted_by: int | None = None
        self._carry_out(self._machine.start(self._clock.monotonic()))
        while self.report is None:
            self._arm()
            message = self._inbox.get()
            now = self._clock.monotonic()
            if isinstance(message, _Done):
                self._carry_out(self._done(message, now))
            elif isinstance(message, Shutdown):
                self._carry_out(self._shutdown(message.cause, now))
            elif isinstance(message, Abort):
                aborted_by = message.signum
                self._carry_out(self._machine.abort(now))
            # Late or not, whatever is due by now is due: a flood of messages must not hold up
            # a deadline.
            self._carry_out(self._machine.tick(now))
        return aborted_by

    def _arm(self) -> None:
        due = self._machine.next_wakeup
        if self._timer is not None and self._timer[0] == due:
            return
        self._disarm()
        if due is not None:
            inbox = self._inbox
            self._timer = (due, self._clock.call_at(due, lambda: inbox.put(None)))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer[1]()
            self._timer = None

    def _done(self, message: _Done, now: float) -> Iterable[Action]:
        name, step = message.name, message.step
        self._cancels.pop((name, step), None)
        if step is Step.READY and message.result is False and message.error is None:
            return self._machine.done(now, name, step, answer=False)
        took = now - self._began.get((name, step), now)
        if message.error is not None:
            _log.error("%s: %s of %s failed: %r", self._name, step.value, name, message.error)
            if COMPONENT_FAILED.subscribers:
                COMPONENT_FAILED.publish(
                    ComponentFailed(name=self._name, component=name, step=step, error=message.error)
                )
        elif step is Step.STOP:
            if COMPONENT_STOPPED.subscribers:
                COMPONENT_STOPPED.publish(
                    ComponentStopped(name=self._name, component=name, took=took)
                )
        elif step is Step.READY or (step is Step.START and Step.READY not in self._calls[name]):
            took = now - self._began.get((name, Step.START), now)
            if COMPONENT_STARTED.subscribers:
                COMPONENT_STARTED.publish(
                    ComponentStarted(name=self._name, component=name, took=took)
                )
        return self._machine.done(now, name, step, message.error)

    def _shutdown(self, cause: BaseException, now: float) -> Iterable[Action]:
        actions = self._machine.shutdown(now, cause)
        if actions:
            budget = self._machine.budget.total
            _log.info("%s: shutting down within %.3g s: %s", self._name, budget, cause)
            if SHUTDOWN_STARTED.subscribers:
                SHUTDOWN_STARTED.publish(
                    ShutdownStarted(name=self._name, cause=cause, budget=budget)
                )
        return actions

    def _carry_out(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Run):
                self._run(action)
            elif isinstance(action, GiveUp):
                cancel = self._cancels.pop((action.name, action.step), None)
                if cancel is not None:
                    cancel()
            elif isinstance(action, Enter):
                self._enter(action.phase)
            elif isinstance(action, CancelRoot):
                self._root.cancel(action.cause)
            elif isinstance(action, Finish):
                self._finish(action.report)

    def _run(self, action: Run) -> None:
        name, step = action.name, action.step
        now = self._clock.monotonic()
        self._began.setdefault((name, step), now)
        if step in {Step.START, Step.READY}:
            # What a start sets going must outlive it, so the step does not own the root.
            ctx, own = self._root, False
        else:
            # Not under the root, which may have been cancelled already.
            ctx, own = context.timeout(max(action.deadline - now, 0.0), parent=self._above), True

        def ended(error: BaseException | None, result: object) -> None:
            self._inbox.put(_Done(name, step, error, result))

        label = f"{name}-{step.value}"
        try:
            cancel = self.steps.run(self._calls[name][step], ended, label=label, ctx=ctx, own=own)
        except RuntimeError as error:  # no more threads to be had
            ended(error, None)
        else:
            self._cancels[name, step] = cancel

    def _enter(self, phase: Phase) -> None:
        _log.debug("%s: %s", self._name, phase.value)
        self._entered(phase)
        if PHASE_CHANGED.subscribers:
            PHASE_CHANGED.publish(PhaseChanged(name=self._name, phase=phase))
        if phase is Phase.SERVING:
            self._served = True
            self.serving.set()

    def _finish(self, report: ShutdownReport) -> None:
        self.report = report
        _log.log(logging.INFO if report.ok else logging.ERROR, "%s: %s", self._name, report)
        if SHUTDOWN_FINISHED.subscribers:
            SHUTDOWN_FINISHED.publish(ShutdownFinished(name=self._name, report=report))
