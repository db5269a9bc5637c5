"""Random arrivals, cancellations, timeouts and changes: nobody is lost, nothing leaks."""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hastack.errors import Rejected
from hastack.ratelimit import ConcurrencyLimit, LeakyBucket, SlidingWindowLog, TokenBucket
from hastack.testing import ManualClock


class Waiting(RuleBasedStateMachine):
    """Callers of one limiter on one event loop in manual time."""

    @initialize(kind=st.sampled_from(["bucket", "log", "leaky"]))
    def start(self, kind):
        self.clock = ManualClock(start=0.0)
        self.loop = self.clock.loop()
        make = {
            "bucket": lambda: TokenBucket("4/s", burst=3, clock=self.clock),
            "log": lambda: SlidingWindowLog("3/s", clock=self.clock),
            "leaky": lambda: LeakyBucket("4/s", clock=self.clock),
        }
        self.kind = kind
        self.limiter = make[kind]()
        self.arrived = []  # tasks in order of arrival, with what they asked for
        self.served = []  # (earliest and latest time of the decision, cost), in order of service
        self.unseen = 0.0  # time that passed while no task could run
        self.order = []
        self.extra = 0.0

    async def ask(self, number, cost, timeout):
        await self.limiter.acquire_async(cost=cost, timeout=timeout)
        now = self.clock.monotonic()
        self.served.append((now - self.unseen, now, cost))
        self.order.append(number)

    def settle(self):
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))

    @rule(cost=st.integers(1, 3), timeout=st.sampled_from([None, None, 0.0, 0.4, 2.0]))
    def arrive(self, cost, timeout):
        task = self.loop.create_task(self.ask(len(self.arrived), cost, timeout))
        self.arrived.append(task)
        self.settle()

    @precondition(lambda self: self.arrived)
    @rule(data=st.data())
    def cancel(self, data):
        data.draw(st.sampled_from(self.arrived)).cancel()
        self.settle()

    @precondition(lambda self: self.arrived)
    @rule(data=st.data())
    def cancel_at_its_turn(self, data):
        """The timer has rung, the task has not run yet."""
        waiting = [task for task in self.arrived if not task.done()]
        if not waiting:
            return
        self.clock.advance(1.0)
        self.limiter._room.serve_all()
        data.draw(st.sampled_from(waiting)).cancel()
        self.unseen = 1.0
        self.settle()
        self.unseen = 0.0

    @rule(seconds=st.sampled_from([0.05, 0.25, 1.0, 3.0]))
    def pass_time(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @precondition(lambda self: self.kind == "bucket")
    @rule(rate=st.sampled_from([2.0, 4.0]))
    def change(self, rate):
        self.limiter.update(rate=rate)
        self.settle()

    @invariant()
    def bounds_hold(self):
        for i, (first, _, _) in enumerate(self.served):
            total = 0.0
            for _, last, cost in self.served[i:]:
                total += cost
                span = last - first
                if self.kind == "bucket":
                    assert total <= 3 + 4 * span + 1e-6
                elif self.kind == "log":
                    assert span >= 1.0 - 1e-6 or total <= 3

    @invariant()
    def first_come_first_served(self):
        assert self.order == sorted(self.order)

    def teardown(self):
        if not hasattr(self, "loop"):
            return
        limiter, loop = self.limiter, self.loop

        async def finish():
            await asyncio.gather(*self.arrived, return_exceptions=True)

        # Everybody who was not cancelled or refused is served in the end.
        loop.run_until_complete(finish())
        served = sum(not task.cancelled() and task.exception() is None for task in self.arrived)
        assert served == len(self.served)
        for task in self.arrived:
            if not task.cancelled() and task.exception() is not None:
                assert isinstance(task.exception(), Rejected)
        assert limiter.stats().waiting == 0
        assert not limiter._room._queues
        loop.run_until_complete(asyncio.sleep(20.0))
        assert limiter.peek().reset_after == 0.0
        if self.kind != "leaky":
            assert limiter.peek().remaining == 3
        loop.close()


class Inside(RuleBasedStateMachine):
    """Holders of a concurrency limit: permits are conserved whatever happens."""

    def __init__(self):
        super().__init__()
        self.clock = ManualClock(start=0.0)
        self.loop = self.clock.loop()
        self.limit = ConcurrencyLimit(3, max_wait=None, max_waiting=5, clock=self.clock)
        self.inside = 0
        self.order = []
        self.tasks = []

    async def work(self, number, seconds, fails):
        async with self.limit:
            self.order.append(number)
            self.inside += 1
            try:
                await asyncio.sleep(seconds)
                if fails:
                    raise KeyError
            finally:
                self.inside -= 1

    def settle(self):
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]), fails=st.booleans())
    def enter(self, seconds, fails):
        self.tasks.append(self.loop.create_task(self.work(len(self.tasks), seconds, fails)))
        self.settle()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data):
        data.draw(st.sampled_from(self.tasks)).cancel()
        self.settle()

    @rule(seconds=st.sampled_from([0.05, 0.5, 2.0]))
    def pass_time(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @rule(limit=st.integers(1, 5))
    def change(self, limit):
        self.limit.update(limit=limit)
        self.settle()

    @invariant()
    def conserved(self):
        self.settle()  # a permit may have been handed to a task that has not run yet
        assert self.limit.in_flight() == self.inside
        assert self.order == sorted(self.order)

    def teardown(self):
        async def finish():
            await asyncio.gather(*self.tasks, return_exceptions=True)

        self.loop.run_until_complete(finish())
        assert self.limit.in_flight() == 0
        assert self.limit.stats().waiting == 0
        assert len(self.limit) == 0
        self.loop.close()


TestWaiting = Waiting.TestCase
TestWaiting.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestInside = Inside.TestCase
TestInside.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
