"""How the end of a context reaches asyncio tasks. ``cancelling()`` is 0 after every scenario."""

from __future__ import annotations

import asyncio
import sys

import pytest

from hastack import context
from hastack.errors import Cancelled, ContextError, DeadlineExceeded, InvalidArgument
from hastack.testing import ManualClock

eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")

FACTORIES = [None]
if sys.version_info >= (3, 12):
    FACTORIES.append(asyncio.eager_task_factory)


@pytest.fixture(params=FACTORIES, ids=["lazy", "eager"][: len(FACTORIES)])
def run(request):
    """Run a scenario on a manual clock, as a task of its own, and check the accounting."""

    def runner(scenario):
        async def body():
            task = asyncio.current_task()
            result = await scenario()
            assert task.cancelling() == 0
            await asyncio.sleep(0)  # a cancellation left behind would strike here
            assert context.current() is base
            return result

        async def main():
            nonlocal base
            asyncio.get_running_loop().set_task_factory(request.param)
            base = context.current()
            return await asyncio.create_task(body())

        base = None
        return ManualClock().run(main())

    return runner


async def forever():
    await asyncio.get_running_loop().create_future()


class TestDeadline:
    def test_cancels_the_awaiting_task(self, run):
        async def scenario():
            loop = asyncio.get_running_loop()
            start = loop.time()
            with pytest.raises(DeadlineExceeded) as info:
                async with context.timeout(1.0) as ctx:
                    await forever()
            assert loop.time() == start + 1.0
            assert isinstance(info.value.__cause__, asyncio.CancelledError)
            assert ctx.done

        run(scenario)

    def test_not_reached(self, run):
        async def scenario():
            async with context.timeout(1.0) as ctx:
                await asyncio.sleep(0.5)
            assert "scope was left" in str(ctx.err())
            await asyncio.sleep(5.0)

        run(scenario)

    def test_cause_is_raised_from(self, run):
        async def scenario():
            why = ValueError("slow backend")
            with pytest.raises(DeadlineExceeded) as info:
                async with context.timeout(1.0, cause=why):
                    await forever()
            assert info.value.__cause__ is why

        run(scenario)

    def test_zero_cancels_at_the_first_await(self, run):
        async def scenario():
            reached = []
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(0.0):
                    reached.append("body")
                    await forever()
            assert reached == ["body"]

        run(scenario)

    def test_body_without_await_completes(self, run):
        async def scenario():
            async with context.timeout(0.0) as ctx:
                pass
            assert isinstance(ctx.err(), DeadlineExceeded)

        run(scenario)

    def test_check_inside_raises_the_same(self, run):
        async def scenario():
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(1.0) as ctx:
                    try:
                        await forever()
                    except asyncio.CancelledError:
                        ctx.check()

        run(scenario)

    def test_other_errors_pass(self, run):
        async def scenario():
            with pytest.raises(ZeroDivisionError):
                async with context.timeout(1.0):
                    try:
                        await forever()
                    finally:
                        1 / 0  # noqa: B018

        run(scenario)

    def test_swallowed_cancellation_is_the_bodys_decision(self, run):
        async def scenario():
            async with context.timeout(1.0) as ctx:
                try:
                    await forever()
                except asyncio.CancelledError:
                    pass
                await asyncio.sleep(3.0)  # edge-triggered: not interrupted again
            assert isinstance(ctx.err(), DeadlineExceeded)

        run(scenario)


class TestNested:
    @pytest.mark.parametrize(("outer", "inner", "raiser"), [(1, 2, "outer"), (2, 1, "inner")])
    def test_the_scope_that_ended_raises(self, run, outer, inner, raiser):
        async def scenario():
            seen = []
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(outer):
                    try:
                        async with context.timeout(inner):
                            await forever()
                    except asyncio.CancelledError:
                        seen.append("outer")
                        raise
                    except DeadlineExceeded:
                        seen.append("inner")
                        raise
            assert seen == [raiser]

        run(scenario)

    def test_the_outer_scope_goes_on_after_the_inner_timeout(self, run):
        async def scenario():
            async with context.timeout(5.0) as outer:
                with pytest.raises(DeadlineExceeded):
                    async with context.timeout(1.0):
                        await forever()
                assert not outer.done
                await asyncio.sleep(1.0)
                assert outer.remaining() == 3.0

        run(scenario)

    @pytest.mark.parametrize("depth", [2, 3, 10])
    def test_same_deadline_everywhere_raises_outermost_and_interrupts_once(self, run, depth):
        async def scenario():
            interrupts = []

            async def nest(level):
                if level == depth:
                    try:
                        await forever()
                    except asyncio.CancelledError:
                        interrupts.append(level)
                        await asyncio.sleep(0)  # clean-up is not interrupted again
                        await asyncio.sleep(0.1)
                        raise
                try:
                    async with context.timeout(1.0):
                        await nest(level + 1)
                except ContextError:
                    interrupts.append(f"raised {level}")
                    raise

            with pytest.raises(DeadlineExceeded):
                await nest(0)
            assert interrupts == [depth, "raised 0"]

        run(scenario)

    def test_outer_deadline_passes_during_the_inner_clean_up(self, run):
        async def scenario():
            seen = []
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(2.0):
                    try:
                        async with context.timeout(1.0):
                            try:
                                await forever()
                            finally:
                                # Blocks the loop past the outer deadline: not served yet.
                                context.current().clock.advance(5.0)
                    except DeadlineExceeded:
                        seen.append("inner")
                        raise
            assert seen == []

        run(scenario)

    def test_cancel_outer_from_inside_inner(self, run):
        async def scenario():
            seen = []
            with pytest.raises(Cancelled, match="drain"):
                async with context.with_cancel() as outer:
                    try:
                        async with context.with_cancel(), context.timeout(9.0):
                            outer.cancel("drain")
                            await forever()
                    except ContextError:
                        seen.append("too early")
                        raise
            assert seen == []

        run(scenario)

    def test_one_end_interrupts_the_clean_up_of_an_inner_scope_once(self, run):
        async def scenario():
            cleaned = []
            with pytest.raises(Cancelled, match="first"):
                async with context.with_cancel() as outer, context.with_cancel() as inner:
                    outer.cancel("first")
                    try:
                        await forever()
                    finally:
                        assert asyncio.current_task().cancelling() == 1
                        inner.cancel("again")
                        await asyncio.sleep(1.0)
                        cleaned.append(1)
            assert cleaned == [1]

        run(scenario)

    def test_a_late_inner_delivery_goes_to_the_outermost_ended_scope(self, run):
        async def scenario():
            with pytest.raises(Cancelled):
                async with context.with_cancel() as outer, context.with_cancel() as inner:
                    outer.cancel()
                    inner._delivery.deliver()
                    assert outer._delivery.sent
                    assert not inner._delivery.sent
                    await forever()

        run(scenario)

    def test_an_error_caught_in_between_leaves_the_outer_scope_its_delivery(self, run):
        async def scenario():
            steps = []
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(2.0):
                    try:
                        async with context.timeout(1.0) as inner:
                            try:
                                await forever()
                            except asyncio.CancelledError:
                                inner.clock.advance(5.0)  # the loop is blocked meanwhile
                                inner.check()
                    except DeadlineExceeded:
                        steps.append("caught")
                    await forever()
            assert steps == ["caught"]

        run(scenario)

    def test_the_error_of_the_body_is_not_replaced(self, run):
        async def scenario():
            mine = DeadlineExceeded("mine")
            with pytest.raises(DeadlineExceeded) as info:
                async with context.timeout(1.0):
                    try:
                        await forever()
                    except asyncio.CancelledError:
                        raise mine from None
            assert info.value is mine

        run(scenario)

    def test_cancel_both_separately(self, run):
        async def scenario():
            with pytest.raises(Cancelled, match="outer"):
                async with context.with_cancel() as outer, context.with_cancel() as inner:
                    inner.cancel("inner")
                    outer.cancel("outer")
                    await forever()

        run(scenario)

    def test_scope_for_clean_up_in_an_ended_scope_is_cancelled_too(self, run):
        async def scenario():
            steps = []
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(1.0):
                    try:
                        await forever()
                    finally:
                        async with context.without_cancel():
                            async with context.timeout(1.0):
                                await asyncio.sleep(0.5)
                            steps.append("cleaned")
                        try:
                            async with context.timeout(1.0):
                                await asyncio.sleep(0.5)
                        except ContextError:
                            steps.append("not here: the outer scope raises")
                        finally:
                            steps.append("cancelled at once")
                        steps.append("never")
            assert steps == ["cleaned", "cancelled at once"]

        run(scenario)

    def test_not_an_ancestor(self, run):
        """The outer scope belongs to another tree; each one settles its own account."""

        async def scenario():
            root = context.current()
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(2.0):
                    with pytest.raises(Cancelled):
                        async with context.with_cancel(root) as other:
                            other.cancel()
                            await forever()
                    await forever()

        run(scenario)

    def test_sync_scopes_in_between(self, run):
        async def scenario():
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(1.0):
                    with context.timeout(5.0), context.with_value("k", 1):
                        async with context.with_cancel() as inner:
                            assert inner.remaining() == 1.0
                            await forever()

        run(scenario)


class TestCancel:
    def test_from_another_task(self, run):
        async def scenario():
            async def victim():
                with pytest.raises(Cancelled, match="bye"):
                    async with ctx:
                        await forever()
                assert asyncio.current_task().cancelling() == 0

            ctx = context.with_cancel()
            task = asyncio.create_task(victim())
            await asyncio.sleep(1.0)
            assert ctx.cancel("bye") is True
            await task

        run(scenario)

    def test_before_entry(self, run):
        async def scenario():
            ctx = context.with_cancel()
            ctx.cancel("early")
            steps = []
            with pytest.raises(Cancelled, match="early"):
                async with ctx:
                    steps.append(1)
                    await forever()
            assert steps == [1]

        run(scenario)

    def test_parent_before_entry(self, run):
        async def scenario():
            parent = context.with_cancel()
            parent.cancel("early")
            with pytest.raises(Cancelled, match="early"):
                async with context.timeout(5.0, parent=parent):
                    await forever()

        run(scenario)

    def test_by_the_body_itself_takes_effect_at_the_next_await(self, run):
        async def scenario():
            steps = []
            with pytest.raises(Cancelled):
                async with context.with_cancel() as ctx:
                    ctx.cancel()
                    steps.append(1)
                    await forever()
            assert steps == [1]

        run(scenario)

    def test_by_the_body_as_its_last_act(self, run):
        async def scenario():
            async with context.with_cancel() as ctx:
                await asyncio.sleep(0)
                ctx.cancel()
            await asyncio.sleep(1.0)

        run(scenario)

    def test_race_with_a_result_that_is_ready(self, run):
        """The task is due to wake with its result when the cancellation arrives."""

        async def scenario():
            future = asyncio.get_running_loop().create_future()
            with pytest.raises(Cancelled):
                async with context.with_cancel() as ctx:
                    asyncio.get_running_loop().call_soon(ctx.cancel)
                    asyncio.get_running_loop().call_soon(future.set_result, None)
                    await future
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
            await asyncio.sleep(1.0)

        run(scenario)

    @pytest.mark.parametrize("ticks", range(6))
    def test_race_with_normal_exit(self, run, ticks):
        async def scenario():
            loop = asyncio.get_running_loop()
            outcome = "completed"
            try:
                async with context.with_cancel() as ctx:

                    def later(n):
                        if n == 0:
                            ctx.cancel()
                        else:
                            loop.call_soon(later, n - 1)

                    later(ticks)
                    for _ in range(3):
                        await asyncio.sleep(0)
            except Cancelled:
                outcome = "cancelled"
            for _ in range(6):
                await asyncio.sleep(0)
            return outcome

        assert run(scenario) == ("cancelled" if ticks < 3 else "completed")

    def test_cause_and_value_context(self, run):
        async def scenario():
            why = OSError("gone")
            with pytest.raises(Cancelled) as info:
                async with context.with_value("k", 1) as ctx:
                    ctx.cancel(why)
                    await forever()
            assert info.value.cause is why
            assert info.value.__cause__ is why
            assert isinstance(info.value.__context__, asyncio.CancelledError)

        run(scenario)

    def test_a_loop_that_is_gone_is_no_error(self):
        async def main():
            scope = context.with_cancel()
            await scope.__aenter__()
            return scope

        scope = ManualClock().run(main())
        assert scope.cancel("late") is True

    def test_re_entry_is_refused(self, run):
        async def scenario():
            ctx = context.with_cancel()
            async with ctx:
                with pytest.raises(InvalidArgument):
                    await ctx.__aenter__()
            with pytest.raises(InvalidArgument):
                await context.background().__aenter__()

        run(scenario)


class TestExternalCancel:
    def test_stays_cancelled_error(self, run):
        async def scenario():
            async def victim():
                async with context.timeout(5.0):
                    await forever()

            task = asyncio.create_task(victim())
            await asyncio.sleep(1.0)
            task.cancel("operator")
            with pytest.raises(asyncio.CancelledError, match="operator"):
                await task
            assert task.cancelled()

        run(scenario)

    @pytest.mark.parametrize("first", ["context", "external"])
    def test_wins_when_both_arrive(self, run, first):
        async def scenario():
            async def victim():
                async with ctx:
                    await forever()

            ctx = context.with_cancel()
            task = asyncio.create_task(victim())
            await asyncio.sleep(1.0)
            if first == "context":
                ctx.cancel()
                await asyncio.sleep(0)
                task.cancel()
            else:
                task.cancel()
                ctx.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

        run(scenario)

    def test_with_two_ended_scopes_leaves_the_external_one(self, run):
        async def scenario():
            async def victim():
                async with outer, context.timeout(50.0):
                    try:
                        await forever()
                    finally:
                        await asyncio.sleep(1.0)

            outer = context.with_cancel()
            task = asyncio.create_task(victim())
            await asyncio.sleep(1.0)
            outer.cancel()
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run(scenario)


class TestAsyncioTimeout:
    def test_inside_fires_first(self, run):
        async def scenario():
            async with context.timeout(5.0) as ctx:
                with pytest.raises(TimeoutError) as info:
                    async with asyncio.timeout(1.0):
                        await forever()
                assert not isinstance(info.value, ContextError)
                assert not ctx.done

        run(scenario)

    def test_inside_context_fires_first(self, run):
        async def scenario():
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(1.0), asyncio.timeout(5.0):
                    await forever()

        run(scenario)

    def test_outside_fires_first(self, run):
        async def scenario():
            with pytest.raises(TimeoutError) as info:
                async with asyncio.timeout(1.0), context.timeout(5.0):
                    await forever()
            assert not isinstance(info.value, ContextError)

        run(scenario)

    def test_outside_context_fires_first(self, run):
        async def scenario():
            async with asyncio.timeout(5.0):
                with pytest.raises(DeadlineExceeded):
                    async with context.timeout(1.0):
                        await forever()

        run(scenario)

    def test_both_at_the_same_time(self, run):
        async def scenario():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0), context.timeout(1.0):
                    await forever()
            with pytest.raises(TimeoutError):
                async with context.timeout(1.0), asyncio.timeout(1.0):
                    await forever()

        run(scenario)

    def test_sandwich(self, run):
        async def scenario():
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(1.0), asyncio.timeout(2.0), context.timeout(3.0):
                    await forever()

        run(scenario)


class TestTaskGroup:
    def test_inside_a_scope(self, run):
        async def scenario():
            ended = []

            async def child():
                try:
                    await forever()
                finally:
                    ended.append(1)

            with pytest.raises(DeadlineExceeded):
                async with context.timeout(1.0), asyncio.TaskGroup() as group:
                    for _ in range(3):
                        group.create_task(child())
            assert ended == [1, 1, 1]

        run(scenario)

    def test_children_with_scopes_of_their_own(self, run):
        async def scenario():
            async def child():
                async with context.timeout(5.0):
                    await forever()

            with pytest.raises(DeadlineExceeded):
                async with context.timeout(1.0), asyncio.TaskGroup() as group:
                    for _ in range(3):
                        group.create_task(child())

        run(scenario)

    def test_errors_of_children_become_one_error(self, run):
        """The children raise their inherited end before the group gets to cancel them."""

        async def scenario():
            async def child():
                await context.sleep_async(60.0)

            async def group_of_three():
                async with asyncio.TaskGroup() as group:
                    for _ in range(3):
                        group.create_task(child())

            with pytest.raises(DeadlineExceeded) as info:
                async with context.timeout(1.0):
                    try:
                        await group_of_three()
                    finally:
                        await asyncio.sleep(0)
            assert isinstance(info.value.__cause__, (BaseExceptionGroup, asyncio.CancelledError))

        run(scenario)

    def test_a_real_error_is_not_hidden(self, run):
        async def scenario():
            async def child():
                try:
                    await forever()
                finally:
                    1 / 0  # noqa: B018

            with pytest.raises(ExceptionGroup) as info:
                async with context.timeout(1.0), asyncio.TaskGroup() as group:
                    group.create_task(child())
            assert [type(e) for e in info.value.exceptions] == [ZeroDivisionError]

        run(scenario)

    def test_around_scopes_gets_their_errors(self, run):
        async def scenario():
            async def child():
                async with context.timeout(1.0):
                    await forever()

            async def parent():
                async with asyncio.TaskGroup() as group:
                    group.create_task(child())

            # In a task of its own: before Python 3.13 a TaskGroup whose child fails while it waits
            # leaves its own cancellation counted on the parent.
            with pytest.raises(ExceptionGroup) as info:
                await asyncio.create_task(parent())
            assert isinstance(info.value.exceptions[0], DeadlineExceeded)

        run(scenario)

    def test_sibling_failure_inside_a_scope(self, run):
        async def scenario():
            async def child():
                await asyncio.sleep(0.5)
                raise ValueError

            async with context.timeout(9.0) as ctx:
                with pytest.raises(ExceptionGroup):
                    async with asyncio.TaskGroup() as group:
                        group.create_task(child())
                        async with context.timeout(5.0):
                            await forever()
                assert not ctx.done

        run(scenario)


class TestInheritance:
    def test_a_task_nobody_cancelled_raises_the_error_instead(self, run):
        async def scenario():
            async def child():
                async with context.timeout(100.0):
                    await forever()

            async with context.with_cancel() as ctx:
                task = asyncio.create_task(child())
                await asyncio.sleep(1.0)
                asyncio.get_running_loop().call_soon(ctx.cancel, "over")
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.shield(task)
            with pytest.raises(Cancelled, match="over"):
                await task
            assert not task.cancelled()

        run(scenario)

    def test_shielded_work_sees_the_end(self, run):
        async def scenario():
            async def child():
                assert context.current() is ctx
                await context.sleep_async(50.0)

            async with context.timeout(1.0) as ctx:
                task = asyncio.create_task(child())
                try:
                    await asyncio.shield(task)
                except asyncio.CancelledError:
                    pass
            with pytest.raises(DeadlineExceeded):
                await task

        run(scenario)


class TestSyncWith:
    def test_does_not_cancel_the_task(self, run):
        async def scenario():
            with context.timeout(1.0) as ctx:
                await asyncio.sleep(3.0)
                assert isinstance(ctx.err(), DeadlineExceeded)
            with context.with_cancel() as ctx:
                ctx.cancel()
                await asyncio.sleep(3.0)

        run(scenario)


class TestWaitAsync:
    def test_times_out_or_sees_the_end(self, run):
        async def scenario():
            loop = asyncio.get_running_loop()
            assert await context.with_cancel().wait_async(5.0) is False
            assert loop.time() == 1005.0
            assert await context.timeout(1.0).wait_async() is True
            assert await context.timeout(1.0).wait_async(9.0) is True
            assert await context.timeout(9.0).wait_async(1.0) is False
            assert loop.time() == 1008.0
            assert await context.timeout(9.0).wait_async(0.0) is False
            assert await context.timeout(0.0).wait_async() is True
            with pytest.raises(InvalidArgument):
                await context.with_cancel().wait_async(-1.0)

        run(scenario)

    def test_sees_a_cancel(self, run):
        async def scenario():
            ctx = context.with_cancel()
            asyncio.get_running_loop().call_later(2.0, ctx.cancel)
            assert await ctx.wait_async(9.0) is True
            assert asyncio.get_running_loop().time() == 1002.0
            assert ctx._live is None

        run(scenario)

    def test_a_cancelled_wait_leaves_nothing(self, run):
        async def scenario():
            top = context.with_cancel()
            ctx = context.timeout(50.0, parent=top)
            task = asyncio.create_task(ctx.wait_async())
            await asyncio.sleep(1.0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert top._live is None

        run(scenario)

    def test_clock_set_back_meanwhile(self, run):
        async def scenario():
            ctx = context.timeout(1.0)
            clock = ctx.clock
            loop = asyncio.get_running_loop()
            loop.call_at(loop.time() + 1.0, clock.set, 1000.2)
            assert await ctx.wait_async() is True
            assert clock.monotonic() >= 1001.0
            at = loop.time() + 1.0
            loop.call_at(at, clock.set, at - 0.7)
            with pytest.raises(DeadlineExceeded):
                async with context.deadline(at):
                    await forever()
            assert clock.monotonic() >= at

        run(scenario)

    def test_a_loop_that_is_gone_is_no_error(self):
        async def main():
            waiting = ctx.wait_async()
            waiting.send(None)
            return waiting

        ctx = context.with_cancel()
        waiting = ManualClock().run(main())
        assert ctx.cancel("late") is True
        with pytest.raises(asyncio.CancelledError):
            waiting.throw(asyncio.CancelledError())

    def test_another_clock_than_the_loops(self):
        clock = ManualClock(5_000_000.0)

        async def main():
            root = context.background(clock=clock)
            ctx = context.timeout(30.0, parent=root)
            waiting = asyncio.create_task(ctx.wait_async())
            scope = context.timeout(30.0, parent=root)

            async def scoped():
                async with scope:
                    await forever()

            scoped_task = asyncio.create_task(scoped())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            clock.advance(31.0)
            assert await waiting is True
            with pytest.raises(DeadlineExceeded):
                await scoped_task

        asyncio.run(main())
        assert clock._timers == []


class TestSleepAsync:
    def test_sleeps_and_honours_the_context(self, run):
        async def scenario():
            loop = asyncio.get_running_loop()
            await context.sleep_async(2.0)
            assert loop.time() == 1002.0
            with context.timeout(1.0), pytest.raises(DeadlineExceeded):
                await context.sleep_async(5.0)
            assert loop.time() == 1003.0
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(1.0):
                    await context.sleep_async(5.0)
            assert loop.time() == 1004.0
            ctx = context.with_cancel()
            ctx.cancel("off")
            with pytest.raises(Cancelled, match="off"):
                await context.sleep_async(1.0, ctx=ctx)
            with pytest.raises(InvalidArgument, match="seconds"):
                await context.sleep_async(-1.0)

        run(scenario)

    def test_zero_lets_others_run(self, run):
        async def scenario():
            ran = []
            asyncio.get_running_loop().call_soon(ran.append, 1)
            await context.sleep_async(0.0)
            assert ran == [1]

        run(scenario)


class TestCost:
    def test_an_inherited_deadline_sets_no_second_timer(self, run):
        async def scenario():
            loop = asyncio.get_running_loop()
            async with context.timeout(5.0):
                before = len(loop._scheduled)
                async with context.timeout(9.0), context.with_cancel():
                    assert len(loop._scheduled) == before

        run(scenario)

    def test_needs_a_task(self):
        async def main():
            scope = context.with_cancel()
            loop = asyncio.get_running_loop()
            failed = loop.create_future()

            def callback():
                try:
                    scope.__aenter__().send(None)
                except RuntimeError as error:
                    failed.set_result(str(error))

            loop.call_soon(callback)
            assert "inside a task" in await failed

        asyncio.run(main())
