"""Random histories of the tree against an eager model that knows the whole truth at any time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from hastack import context
from hastack.errors import Cancelled, ContextError, DeadlineExceeded
from hastack.testing import ManualClock

EXIT = "exit"


@dataclass
class Node:
    """What the model knows about one context."""

    ctx: context.Context
    parent: Node | None  # None below the background and for without_cancel
    deadline: float | None
    owned: bool
    values: dict
    end: tuple[str, object, float] | None = None  # kind, cause, when
    stillborn: bool = False  # made below an ended one, and so ended the same way
    watchers: list[Watcher] = field(default_factory=list)


@dataclass
class Watcher:
    ran: list[int]
    stop: object
    expected: int = 0
    stopped: bool = False


class Tree(RuleBasedStateMachine):
    nodes = Bundle("nodes")
    watchers = Bundle("watchers")

    def __init__(self):
        super().__init__()
        self.clock = ManualClock(0.0)
        self.root = context.background(clock=self.clock)
        self.known: list[Node] = []

    # The model

    def settle(self):
        now = self.clock.monotonic()
        for node in self.known:  # parents come before children
            if node.end is not None:
                continue
            above = node.parent.end if node.parent else None
            late = node.deadline is not None and node.deadline <= now
            if above is not None and not (late and node.deadline < above[2]):
                node.end = above
            elif late:
                node.end = ("deadline", node.ctx, node.deadline)
            if node.end is not None:
                for watcher in node.watchers:
                    watcher.expected += not watcher.stopped

    def add(self, ctx, parent, deadline=None, *, cut=False, owned=True, value=None):
        values = dict(parent.values) if parent else {}
        if value is not None:
            values[value[0]] = value[1]
        node = Node(ctx, None if cut else parent, deadline, owned, values)
        self.settle()
        if node.parent is not None and node.parent.end is not None:
            node.end, node.stillborn = node.parent.end, True
        self.known.append(node)
        self.settle()
        return node

    def real_parent(self, parent):
        return parent.ctx if parent else self.root

    # What may happen

    @rule(target=nodes, parent=st.one_of(st.none(), nodes))
    def with_cancel(self, parent):
        return self.add(context.with_cancel(self.real_parent(parent)), parent)

    @rule(target=nodes, parent=st.one_of(st.none(), nodes), seconds=st.integers(0, 6))
    def timeout(self, parent, seconds):
        ctx = context.timeout(seconds, parent=self.real_parent(parent))
        return self.add(ctx, parent, self.clock.monotonic() + seconds)

    @rule(target=nodes, parent=st.one_of(st.none(), nodes), at=st.integers(0, 30))
    def deadline(self, parent, at):
        return self.add(context.deadline(at, parent=self.real_parent(parent)), parent, float(at))

    @rule(
        target=nodes,
        parent=st.one_of(st.none(), nodes),
        key=st.sampled_from("abc"),
        value=st.integers(),
    )
    def with_value(self, parent, key, value):
        ctx = context.with_value(key, value, self.real_parent(parent))
        return self.add(ctx, parent, owned=False, value=(key, value))

    @rule(target=nodes, parent=nodes)
    def without_cancel(self, parent):
        return self.add(context.without_cancel(parent.ctx), parent, cut=True, owned=False)

    @rule(node=nodes)
    def cancel(self, node):
        cause = ValueError()
        self.settle()
        first = node.end is None
        if first:
            # Later than every deadline that has passed, which settle() has dealt with.
            node.end = ("cancel", cause, self.clock.monotonic())
            for watcher in node.watchers:
                watcher.expected += not watcher.stopped
        assert node.ctx.cancel(cause) is first
        self.settle()

    @rule(node=nodes)
    def leave_its_scope(self, node):
        self.settle()
        if node.owned and node.end is None:
            node.end = (EXIT, None, self.clock.monotonic())
            for watcher in node.watchers:
                watcher.expected += not watcher.stopped
        with node.ctx:
            assert context.current() is node.ctx
        self.settle()

    @rule(seconds=st.integers(0, 4))
    def advance(self, seconds):
        self.clock.advance(seconds)
        self.settle()

    @rule(target=watchers, node=nodes)
    def after_func(self, node):
        self.settle()
        ran = []
        watcher = Watcher(ran, None)
        watcher.stop = node.ctx.after_func(lambda: ran.append(1))
        node.watchers.append(watcher)
        watcher.expected = int(node.end is not None)
        return watcher

    @rule(watcher=watchers)
    def stop(self, watcher):
        in_time = not watcher.stopped and not watcher.expected
        assert watcher.stop() is in_time
        watcher.stopped = watcher.stopped or in_time

    @rule(node=nodes)
    def look(self, node):
        assert node.ctx.done is (node.end is not None)
        error, cause = node.ctx.err(), node.ctx.cause()
        if node.end is None:
            assert error is None
            assert cause is None
            node.ctx.check()
            return
        kind, why, when = node.end
        if any(n.deadline == when and not n.stillborn for n in self.lineage(node)):
            # Both at the same reading of the clock: either answer is true.
            assert isinstance(error, (Cancelled, DeadlineExceeded))
        elif kind == "cancel":
            assert isinstance(error, Cancelled)
            assert cause is why
        elif kind == EXIT:
            assert isinstance(error, (Cancelled, DeadlineExceeded))
        elif any(n.end and n.end[0] == EXIT for n in self.lineage(node)):
            # Its scope was left before anybody looked at the deadline: either answer is true.
            assert isinstance(error, ContextError)
        else:
            assert isinstance(error, DeadlineExceeded)

    @rule(node=nodes)
    def read(self, node):
        deadlines = [n.deadline for n in self.lineage(node) if n.deadline is not None]
        assert node.ctx.deadline == min(deadlines, default=None)
        for key in "abcd":
            assert node.ctx.value(key, "none") == node.values.get(key, "none")
        left = node.ctx.remaining()
        if deadlines:
            assert left == max(0.0, min(deadlines) - self.clock.monotonic())
        else:
            assert left is None

    @staticmethod
    def lineage(node):
        while node is not None:
            yield node
            node = node.parent

    # What always holds

    @invariant()
    def callbacks_run_exactly_when_they_should(self):
        for node in self.known:
            for watcher in node.watchers:
                assert len(watcher.ran) == watcher.expected

    @invariant()
    def only_watched_contexts_are_linked(self):
        watched = set()
        for node in self.known:
            if any(not w.stopped and not w.ran for w in node.watchers):
                watched.update(id(n.ctx) for n in self.lineage(node))
        for node in self.known:
            assert (node.ctx._live is not None) == (id(node.ctx) in watched)


Tree.TestCase.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestTree = Tree.TestCase


# Random schedules of async cancels. Scopes end at whole seconds, bodies at quarters and the
# outside cancels at halves, so that the first event is known.

scopes = st.lists(
    st.tuples(st.sampled_from(["timeout", "cancel", "value", "asyncio"]), st.integers(0, 6)),
    min_size=1,
    max_size=5,
)


def open_scope(kind, seconds, loop):
    if kind == "timeout":
        return context.timeout(seconds)
    if kind == "asyncio":
        return asyncio.timeout(seconds + 0.125)
    ctx = context.with_cancel() if kind == "cancel" else context.with_value("k", seconds)
    loop.call_later(seconds, ctx.cancel, "planned")
    return ctx


async def nest(plan, body, raised, level=0):
    if level == len(plan):
        await body()
        return
    kind, seconds = plan[level]
    try:
        async with open_scope(kind, seconds, asyncio.get_running_loop()):
            await nest(plan, body, raised, level + 1)
    except TimeoutError as error:
        if not raised:
            raised.append((level, type(error)))
        raise
    except Cancelled as error:
        if not raised:
            raised.append((level, type(error)))
        raise


async def run_plan(plan, body, external):
    raised = []
    counts = []

    async def victim():
        try:
            await nest(plan, body, raised)
            return "completed"
        finally:
            counts.append(asyncio.current_task().cancelling())

    task = asyncio.create_task(victim())
    if external is not None:
        asyncio.get_running_loop().call_later(external + 0.5, task.cancel)
    try:
        outcome = await task
    except asyncio.CancelledError:
        outcome = "cancelled"
    except (ContextError, TimeoutError) as error:
        outcome = type(error)
    return outcome, raised, counts


@settings(max_examples=250, deadline=None)
@given(plan=scopes, length=st.integers(0, 7), external=st.one_of(st.none(), st.integers(0, 6)))
def test_the_first_event_decides(plan, length, external):
    async def body():
        await asyncio.sleep(length + 0.25)

    outcome, raised, counts = ManualClock(0.0).run(run_plan(plan, body, external))
    ends = [seconds + (0.125 if kind == "asyncio" else 0.0) for kind, seconds in plan]
    first = min(ends)
    if external is not None and external + 0.5 < min(first, length + 0.25):
        assert outcome == "cancelled"
        assert raised == []
        assert counts == [1]
        return
    assert counts == [0]
    if length + 0.25 < first:
        assert outcome == "completed"
        return
    level = ends.index(first)  # the outermost of those that ended
    kind = plan[level][0]
    expected = {"timeout": DeadlineExceeded, "asyncio": TimeoutError}.get(kind, Cancelled)
    assert raised == [(level, expected)]
    assert outcome is expected


@settings(max_examples=250, deadline=None)
@given(
    plan=scopes,
    length=st.integers(0, 7),
    external=st.one_of(st.none(), st.integers(0, 6)),
    clean_up=st.lists(st.integers(1, 12), max_size=3),
    swallow=st.booleans(),
)
def test_the_account_is_settled_however_slow_the_clean_up(
    plan, length, external, clean_up, swallow
):
    async def body():
        try:
            await asyncio.sleep(length + 0.25)
        except asyncio.CancelledError:
            for quarter in clean_up:
                try:
                    await asyncio.sleep(quarter / 4)
                except asyncio.CancelledError:
                    if not swallow:
                        raise
            raise

    clock = ManualClock(0.0)
    outcome, raised, counts = clock.run(run_plan(plan, body, external))
    interrupted = external is not None and outcome == "cancelled"
    assert counts == [int(interrupted)]
    if external is None:
        assert outcome != "cancelled"
    if outcome == "completed":
        assert raised == []


@settings(max_examples=100, deadline=None)
@given(
    plans=st.lists(st.tuples(scopes, st.integers(0, 7)), min_size=1, max_size=5),
    root_end=st.integers(0, 7),
)
def test_one_root_ends_many_tasks(plans, root_end):
    """Every task of a cancelled root ends by then, and none leaves anything behind."""

    async def main():
        root = context.with_cancel()
        loop = asyncio.get_running_loop()
        loop.call_later(root_end + 0.0625, root.cancel, "shutdown")

        async def one(plan, length):
            async def body():
                await asyncio.sleep(length + 0.25)

            with context.using(root):
                return await run_plan([("value", 99), *plan], body, None), loop.time()

        results = await asyncio.gather(*(one(plan, length) for plan, length in plans))
        for (_, _, counts), at in results:
            assert counts == [0]
            assert at <= root_end + 0.0625
        assert root._live is None

    ManualClock(0.0).run(main())
