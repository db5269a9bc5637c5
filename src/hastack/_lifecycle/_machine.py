"""The phases of a service's life, decided without a clock, a thread or a loop.

The shell tells the machine what happened and at what time; it answers with actions. One machine
therefore drives synchronous and asynchronous services alike, and a test walks through a whole
shutdown in microseconds.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

from hastack._core._errors import ContextError, ShutdownRequested

from . import _order
from ._report import ShutdownReport

if TYPE_CHECKING:
    from collections.abc import Sequence

READY_INTERVAL = 0.05
"""Seconds between two questions to a component whose ``ready`` said False."""


class Phase(enum.Enum):
    """Where a service is in its life; phases only ever move on, down this list."""

    NEW = "new"
    STARTING = "starting"
    SERVING = "serving"
    LAME_DUCK = "lame_duck"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Step(enum.Enum):
    """What a component is asked to do."""

    START = "start"
    READY = "ready"
    DRAIN = "drain"
    STOP = "stop"


@attrs.frozen
class Spec:
    """A component as far as ordering is concerned."""

    name: str
    depends_on: tuple[str, ...] = ()
    steps: frozenset[Step] = frozenset(Step)
    start_timeout: float = 60.0


@attrs.frozen
class Budget:
    """Seconds that each part of a shutdown may take."""

    lame_duck: float
    drain: float
    stop: float

    @property
    def total(self) -> float:
        return self.lame_duck + self.drain + self.stop


@attrs.frozen
class Run:
    """Carry out ``step`` of component ``name``; it should end by ``deadline``."""

    name: str
    step: Step
    deadline: float


@attrs.frozen
class GiveUp:
    """Nobody waits for this step any more: cancel it if it can be cancelled."""

    name: str
    step: Step


@attrs.frozen
class Enter:
    """The service is in ``phase`` from now on."""

    phase: Phase


@attrs.frozen
class CancelRoot:
    """Cancel the root context."""

    cause: BaseException


@attrs.frozen
class Finish:
    """It is over."""

    report: ShutdownReport


Action = Run | GiveUp | Enter | CancelRoot | Finish


@attrs.define
class _Part:
    """One component on its way up and down."""

    spec: Spec
    height: int
    dependents: tuple[str, ...]
    begun: set[Step] = attrs.field(factory=set)
    running: Step | None = None
    deadline: float = 0.0  # of the running START/READY, or end of this part's share going down
    retry_at: float | None = None
    up: bool = False  # its start has done something that a stop must undo
    ready: bool = False
    past: bool = False  # the parts below it need not wait for it any longer
    in_turn: bool = False  # everything above it is past


class Machine:
    """All decisions of one life, from start to the last component stopped."""

    def __init__(self, specs: Sequence[Spec], budget: Budget) -> None:
        graph = {spec.name: spec.depends_on for spec in specs}
        by_name = {spec.name: spec for spec in specs}
        heights, users = _order.heights(graph), _order.dependents(graph)
        self._parts = {
            name: _Part(by_name[name], heights[name], users[name])
            for name in _order.start_order(graph)
        }
        self.budget = budget
        self._deadline = 0.0  # of the running phase
        self._asked_at: float | None = None
        self._cancelled = False
        self._marks: dict[Phase, float] = {}
        self._errors: list[tuple[str, str, BaseException]] = []
        self._not_drained: list[str] = []
        self._stopped: list[str] = []
        self.phase = Phase.NEW
        self.cause: BaseException | None = None
        self.failed: tuple[str, BaseException] | None = None

    @property
    def next_wakeup(self) -> float | None:
        """The next time at which `tick` has something to decide."""
        times: list[float] = []
        if self.phase in {Phase.LAME_DUCK, Phase.DRAINING, Phase.STOPPING}:
            times.append(self._deadline)
        if self.phase is not Phase.STOPPED:
            for part in self._parts.values():
                if part.running and self._counts(part):
                    times.append(part.deadline)
                if part.retry_at is not None:
                    times.append(part.retry_at)
        return min(times, default=None)

    # Going up ---------------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """Begin; only the first call does anything."""
        if self.phase is not Phase.NEW:
            return []
        out: list[Action] = []
        self._enter(Phase.STARTING, now, out)
        self._advance_start(now, out)
        return out

    def _advance_start(self, now: float, out: list[Action]) -> None:
        # Start order puts a part behind what it needs, so one pass also carries through parts
        # that have nothing to do.
        for part in self._parts.values():
            if part.begun or not all(self._parts[need].ready for need in part.spec.depends_on):
                continue
            part.begun.add(Step.START)
            part.deadline = now + part.spec.start_timeout
            if Step.START in part.spec.steps:
                self._run(part, Step.START, out)
            else:
                self._started(part, out)
        if all(part.ready for part in self._parts.values()):
            self._enter(Phase.SERVING, now, out)

    def _started(self, part: _Part, out: list[Action]) -> None:
        part.up = True
        if Step.READY in part.spec.steps:
            self._run(part, Step.READY, out)
        else:
            part.ready = True

    def _start_failed(
        self, part: _Part, error: BaseException, now: float, out: list[Action]
    ) -> None:
        self.failed = (part.spec.name, error)
        self.cause = error
        self._asked_at = now
        self._stop_all(now, out)

    # What happened ----------------------------------------------------------------------

    def done(
        self,
        now: float,
        name: str,
        step: Step,
        error: BaseException | None = None,
        *,
        answer: bool = True,
    ) -> list[Action]:
        """``step`` of ``name`` ended.

        Args:
            now: The time.
            name: The component.
            step: What it did.
            error: What it raised, or ``None``.
            answer: For `Step.READY`, whether it is ready; False asks again a little later.
        """
        part = self._parts[name]
        if part.running is not step or self.phase is Phase.STOPPED:
            return []  # given up long ago
        out: list[Action] = []
        part.running = None
        # A step that noticed the end of its time by itself has not done its work, which the
        # report says in its own words.
        late = isinstance(error, TimeoutError) and step in {Step.DRAIN, Step.STOP}
        # Nor is a start at fault that was cancelled because the service ends.
        given_up = step is Step.START and self.phase is Phase.STOPPING
        if error is not None and not late and not (given_up and isinstance(error, ContextError)):
            self._errors.append((name, step.value, error))
        if self.phase is Phase.STARTING:
            self._done_starting(part, step, error, answer, now, out)
        elif step is Step.START:
            part.up = error is None  # too late to serve, but it must be stopped
            part.past = False
            self._advance_down(Step.STOP, now, out)
        elif step is Step.DRAIN:
            part.past = True
            if late:
                self._not_drained.append(name)
            self._advance_down(Step.DRAIN, now, out)
        else:
            part.up, part.past = late, True
            if error is None:
                self._stopped.append(name)
            self._advance_down(Step.STOP, now, out)
        return out

    def _done_starting(
        self,
        part: _Part,
        step: Step,
        error: BaseException | None,
        answer: bool,
        now: float,
        out: list[Action],
    ) -> None:
        if error is not None:
            self._start_failed(part, error, now, out)
            return
        if step is Step.START:
            self._started(part, out)
        elif answer:
            part.ready = True
        else:
            part.retry_at = now + READY_INTERVAL
        self._advance_start(now, out)

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        out: list[Action] = []
        if self.phase is Phase.STARTING:
            self._tick_starting(now, out)
        elif self.phase is Phase.LAME_DUCK and now >= self._deadline:
            self._drain_all(now, out)
        elif self.phase is Phase.DRAINING:
            if now >= self._deadline:
                self._stop_all(now, out)
            elif self._overran(now):
                self._advance_down(Step.DRAIN, now, out)
        elif self.phase is Phase.STOPPING:
            if now >= self._deadline:
                self._finish(now, out)
            elif self._overran(now):
                self._advance_down(Step.STOP, now, out)
        return out

    def _tick_starting(self, now: float, out: list[Action]) -> None:
        for part in self._parts.values():
            waits = part.running is not None or part.retry_at is not None
            if waits and now >= part.deadline:
                verb = "start" if not part.up else "become ready"
                limit = part.spec.start_timeout
                message = f"{part.spec.name} did not {verb} within {limit:g} s"
                self._start_failed(part, TimeoutError(message), now, out)
                return
            if part.retry_at is not None and now >= part.retry_at:
                part.retry_at = None
                self._run(part, Step.READY, out)

    def _overran(self, now: float) -> bool:
        """Let what is below an overdue part go on; say whether there is such a part."""
        found = False
        for part in self._parts.values():
            if part.running and self._counts(part) and now >= part.deadline:
                part.past = found = True
        return found

    def _counts(self, part: _Part) -> bool:
        """Whether somebody waits for the running step of ``part``."""
        return self.phase is Phase.STARTING or (part.in_turn and not part.past)

    # Going down -------------------------------------------------------------------------

    def shutdown(self, now: float, cause: BaseException) -> list[Action]:
        """Somebody wants the service to end; only the first wish counts."""
        out: list[Action] = []
        if self._asked_at is not None or self.phase is Phase.STOPPED:
            return out
        self._asked_at = now
        self.cause = cause
        if self.phase is Phase.SERVING:
            self._deadline = now + self.budget.lame_duck
            self._enter(Phase.LAME_DUCK, now, out)
            if self.budget.lame_duck == 0.0:
                self._drain_all(now, out)
        else:  # nobody was ever told that it is ready
            self._stop_all(now, out)
        return out

    def abort(self, now: float) -> list[Action]:
        """End here and now, and report what is still up."""
        out: list[Action] = []
        if self.phase is Phase.STOPPED:
            return out
        self.cause = self.cause or ShutdownRequested("aborted")
        self._asked_at = now if self._asked_at is None else self._asked_at
        self._cancel_root(out)
        self._finish(now, out, aborted=True)
        return out

    def _drain_all(self, now: float, out: list[Action]) -> None:
        self._deadline = now + self.budget.drain
        self._enter(Phase.DRAINING, now, out)
        self._advance_down(Step.DRAIN, now, out)

    def _stop_all(self, now: float, out: list[Action]) -> None:
        """Leave whatever phase this is: cancel the root, then stop in reverse."""
        for part in self._parts.values():
            part.retry_at = None
            part.past = part.in_turn = False
            if part.running is None:
                continue
            out.append(GiveUp(part.spec.name, part.running))
            if part.running is Step.DRAIN:
                self._not_drained.append(part.spec.name)
            if part.running is not Step.START:
                part.running = None
        self._deadline = now + self.budget.stop
        self._enter(Phase.STOPPING, now, out)
        self._cancel_root(out)
        self._advance_down(Step.STOP, now, out)

    def _advance_down(self, step: Step, now: float, out: list[Action]) -> None:
        """Begin ``step`` of each part whose dependents are past it."""
        for part in reversed(self._parts.values()):
            if part.past or not all(self._parts[user].past for user in part.dependents):
                continue
            if not part.in_turn:
                part.in_turn = True
                # Nobody may eat the time of those below: a part has an equal share of what is
                # left, counted down its longest chain. Overrunning it only means that the
                # others go ahead; what counts in the end is the deadline of the phase.
                part.deadline = now + (self._deadline - now) / part.height
            if part.running is not None:
                continue
            if part.up and step not in part.begun and step in part.spec.steps:
                part.begun.add(step)
                self._run(part, step, out)
            else:
                if step is Step.STOP and part.up:
                    part.up = False
                    self._stopped.append(part.spec.name)
                part.past = True
        if any(part.running or not part.past for part in self._parts.values()):
            return
        if step is Step.DRAIN:
            self._stop_all(now, out)
        else:
            self._finish(now, out)

    def _finish(self, now: float, out: list[Action], *, aborted: bool = False) -> None:
        left = [part for part in self._parts.values() if part.running or part.up]
        out.extend(GiveUp(part.spec.name, part.running) for part in left if part.running)
        self._enter(Phase.STOPPED, now, out)
        assert self.cause is not None
        assert self._asked_at is not None
        marks = self._marks
        stopping = marks.get(Phase.STOPPING, now)
        draining = marks.get(Phase.DRAINING, stopping)
        report = ShutdownReport(
            cause=self.cause,
            aborted=aborted,
            start_failed=None if self.failed is None else self.failed[0],
            stopped=tuple(self._stopped),
            not_drained=tuple(self._not_drained),
            not_stopped=tuple(part.spec.name for part in reversed(left)),
            errors=tuple(self._errors),
            lame_duck=draining - marks.get(Phase.LAME_DUCK, draining),
            drain=stopping - draining,
            stop=now - stopping,
            budget=self.budget.total,
        )
        out.append(Finish(report))

    # Small moves ------------------------------------------------------------------------

    def _run(self, part: _Part, step: Step, out: list[Action]) -> None:
        part.running = step
        down = step in {Step.DRAIN, Step.STOP}
        out.append(Run(part.spec.name, step, self._deadline if down else part.deadline))

    def _enter(self, phase: Phase, now: float, out: list[Action]) -> None:
        self.phase = phase
        self._marks[phase] = now
        out.append(Enter(phase))

    def _cancel_root(self, out: list[Action]) -> None:
        if not self._cancelled:
            self._cancelled = True
            assert self.cause is not None
            out.append(CancelRoot(self.cause))
