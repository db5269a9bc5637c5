"""Whatever happens in whatever order, a life ends in time and leaves nothing unsaid."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hastack._lifecycle import _order
from hastack._lifecycle._machine import (
    Budget,
    CancelRoot,
    Enter,
    Finish,
    GiveUp,
    Machine,
    Phase,
    Run,
    Spec,
    Step,
)
from hastack.errors import ShutdownRequested

NAMES = "abcdef"
ORDER = list(Phase)


@st.composite
def graphs(draw):
    count = draw(st.integers(0, len(NAMES)))
    # Needs point to earlier letters only, so there is no cycle; the order of adding is any.
    needs = {
        NAMES[n]: tuple(draw(st.lists(st.sampled_from(NAMES[:n]), unique=True))) if n else ()
        for n in range(count)
    }
    return {name: needs[name] for name in draw(st.permutations(list(needs)))}


@given(graphs())
def test_orders_respect_the_graph(graph):
    order = _order.start_order(graph)
    assert sorted(order) == sorted(graph)
    for name, needs in graph.items():
        assert all(order.index(need) < order.index(name) for need in needs)
        assert all(_order.heights(graph)[name] > _order.heights(graph)[need] for need in needs)
    assert _order.cycle(graph) is None


@given(graphs(), st.data())
def test_an_edge_back_closes_a_cycle(graph, data):
    pairs = [(need, name) for name, needs in graph.items() for need in needs]
    if pairs:
        low, high = data.draw(st.sampled_from(pairs))
        found = _order.cycle({**graph, low: (*graph[low], high)})
        assert found is not None
        assert found[0] == found[-1]


class Life(RuleBasedStateMachine):
    """Plays the shell: carries steps out in any order, with any result, at any time."""

    @initialize(
        graph=graphs(),
        steps=st.lists(st.sets(st.sampled_from(list(Step))), min_size=6, max_size=6),
        budget=st.tuples(*[st.sampled_from([0.0, 1.0, 7.5])] * 3),
    )
    def begin(self, graph, steps, budget):
        self.now = 100.0
        self.graph = graph
        self.specs = {
            name: Spec(name, needs, frozenset(steps[n]), 5.0)
            for n, (name, needs) in enumerate(graph.items())
        }
        self.budget = Budget(*budget)
        self.machine = Machine(list(self.specs.values()), self.budget)
        self.running: dict[tuple[str, Step], float] = {}
        self.abandoned: set[tuple[str, Step]] = set()
        self.ready: set[str] = set()
        self.begun: list[tuple[str, Step]] = []
        self.up: set[str] = set()
        self.down: set[str] = set()
        self.phases = [Phase.NEW]
        self.cancels = 0
        self.asked_at = None
        self.report = None
        self.take(self.machine.start(self.now))

    def take(self, actions):
        for action in actions:
            assert self.report is None, "nothing comes after the end"
            if isinstance(action, Run):
                key = (action.name, action.step)
                assert action.step in self.specs[action.name].steps
                if action.step is not Step.READY:
                    assert key not in self.begun, "each step runs once"
                self.begun.append(key)
                self.running[key] = action.deadline
                if action.step is Step.START:
                    self.check_start(action.name)
                if action.step is Step.STOP:
                    assert self.cancels == 1, "the root is cancelled before anything stops"
            elif isinstance(action, GiveUp):
                self.abandoned.add((action.name, action.step))
            elif isinstance(action, Enter):
                assert ORDER.index(action.phase) > ORDER.index(self.phases[-1])
                self.phases.append(action.phase)
                if action.phase in {Phase.STOPPING, Phase.LAME_DUCK} and self.asked_at is None:
                    self.asked_at = self.now
            elif isinstance(action, CancelRoot):
                self.cancels += 1
            else:
                assert isinstance(action, Finish)
                self.report = action.report

    def check_start(self, name):
        for need in self.graph[name]:
            if Step.READY in self.specs[need].steps:
                assert need in self.ready
            elif Step.START in self.specs[need].steps:
                assert need in self.up

    def move(self, seconds):
        """Time passes as in the shell: no wake-up is missed."""
        end = self.now + seconds
        ticks = 0
        while self.report is None:
            due = self.machine.next_wakeup
            if due is None or due > end:
                break
            self.now = max(due, self.now)
            self.take(self.machine.tick(self.now))
            ticks += 1
            # Phases without time follow each other at once, but never in circles.
            assert ticks < 2000, "ticks make progress"
        self.now = end

    @precondition(lambda self: self.running)
    @rule(data=st.data(), fails=st.sampled_from([False, False, False, True]), answer=st.booleans())
    def step_ends(self, data, fails, answer):
        name, step = key = data.draw(st.sampled_from(sorted(self.running, key=str)))
        del self.running[key]
        error = OSError() if fails else None
        if not fails and step is Step.START:
            self.up.add(name)
        if not fails and step is Step.READY and answer:
            self.ready.add(name)
        if step is Step.STOP and not fails:
            self.down.add(name)
        self.take(self.machine.done(self.now, name, step, error, answer=answer))

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 3.0, 8.0]))
    def time_passes(self, seconds):
        self.move(seconds)

    @rule()
    def shutdown(self):
        if self.asked_at is None:
            self.asked_at = self.now
        self.take(self.machine.shutdown(self.now, ShutdownRequested()))

    @precondition(lambda self: self.asked_at is not None)
    @rule()
    def abort(self):
        self.take(self.machine.abort(self.now))
        assert self.report is not None

    @invariant()
    def ends_within_the_budget(self):
        if not hasattr(self, "report"):
            return
        if self.report is None and self.asked_at is not None:
            assert self.now <= self.asked_at + self.budget.total
        if self.report is not None:
            assert self.report.duration <= self.budget.total + 1e-9

    @invariant()
    def the_root_is_cancelled_once_and_before_the_end(self):
        if hasattr(self, "report"):
            assert self.cancels == int(bool({Phase.STOPPING, Phase.STOPPED} & set(self.phases)))

    def teardown(self):
        if not hasattr(self, "report"):
            return
        self.take(self.machine.shutdown(self.now, ShutdownRequested()))
        self.move(self.budget.total + 10.0)
        assert self.report is not None, "every life ends"
        end = self.report
        # Exactly those whose start did something are accounted for, each once.
        failed_stop = {name for name, step, _ in end.errors if step == "stop"}
        accounted = [*end.stopped, *end.not_stopped, *failed_stop]
        assert len(accounted) == len(set(accounted))
        assert self.up <= set(accounted) | {
            name for name, step in self.abandoned if step is Step.START
        }
        assert self.down <= set(end.stopped) | set(end.not_stopped)
        for name in end.not_stopped:
            assert name not in end.stopped


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_life = Life.TestCase
