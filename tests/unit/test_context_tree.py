"""The cancel tree without any event loop, on a manual clock."""

from __future__ import annotations

import contextvars
import gc
import sys
import weakref
from datetime import timedelta

import pytest

from hastack import context
from hastack.errors import Cancelled, ContextError, DeadlineExceeded, InvalidArgument
from hastack.testing import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def root(clock):
    return context.background(clock=clock)


class TestBackground:
    def test_never_ends(self):
        root = context.background()
        assert root.deadline is None
        assert root.remaining() is None
        assert not root.done
        assert root.err() is None
        assert root.cause() is None
        root.check()
        assert root.cancel("no") is False
        assert not root.done
        assert root.wait(0.0) is False

    def test_keeps_nothing_for_its_end(self):
        ran = []
        stop = context.background().after_func(lambda: ran.append(1))
        assert stop() is True
        assert stop() is False
        assert ran == []

    def test_is_current_by_default_and_single(self):
        assert context.current() is context.background()

    def test_cannot_be_entered(self):
        with pytest.raises(InvalidArgument, match="using"):
            context.background().__enter__()
        assert context.current() is context.background()

    def test_children_do_not_link_to_it(self, root):
        ctx = context.with_cancel(root)
        ctx.after_func(print)
        assert root._live is None


class TestDeadline:
    def test_is_the_minimum_of_parent_and_own(self, root):
        outer = context.timeout(10.0, parent=root)
        assert context.timeout(5.0, parent=outer).remaining() == 5.0
        assert context.timeout(20.0, parent=outer).remaining() == 10.0
        assert context.with_cancel(outer).deadline == outer.deadline
        assert context.timeout(None, parent=outer).deadline == outer.deadline
        assert context.timeout(None, parent=root).deadline is None
        assert context.deadline(root.clock.monotonic() + 3.0, parent=outer).remaining() == 3.0
        assert context.deadline(None, parent=outer).remaining() == 10.0

    def test_takes_timedelta_and_int(self, root):
        assert context.timeout(timedelta(minutes=1), parent=root).remaining() == 60.0
        assert context.timeout(7, parent=root).remaining() == 7.0

    def test_passes(self, root, clock):
        ctx = context.timeout(1.0, parent=root)
        clock.advance(0.999)
        assert not ctx.done
        assert ctx.remaining() == pytest.approx(0.001)
        clock.advance(0.001)
        assert ctx.done
        assert ctx.remaining() == 0.0
        assert isinstance(ctx.err(), DeadlineExceeded)
        assert isinstance(ctx.err(), TimeoutError)
        assert isinstance(ctx.cause(), DeadlineExceeded)
        with pytest.raises(DeadlineExceeded, match="deadline exceeded"):
            ctx.check()
        assert ctx.cancel() is False
        assert isinstance(ctx.err(), DeadlineExceeded)

    def test_cause_belongs_to_the_deadline_that_passed(self, root, clock):
        slow, fast = ValueError("slow"), ValueError("fast")
        outer = context.timeout(2.0, parent=root, cause=slow)
        inner = context.timeout(1.0, parent=outer, cause=fast)
        unused = context.timeout(3.0, parent=outer, cause=ValueError("unused"))
        clock.advance(5.0)
        assert inner.cause() is fast
        assert inner.err().__cause__ is fast
        assert outer.cause() is slow
        assert unused.cause() is slow

    def test_zero_has_passed_at_once(self, root):
        assert context.timeout(0.0, parent=root).done

    @pytest.mark.parametrize(
        "bad",
        [-1.0, -1, float("nan"), float("inf"), True, "1", timedelta(-1), 10**400],
        ids=lambda bad: str(bad)[:10],
    )
    def test_refuses_bad_timeouts(self, bad):
        with pytest.raises(InvalidArgument, match="seconds"):
            context.timeout(bad)

    @pytest.mark.parametrize(
        "bad", [float("nan"), float("inf"), True, "1", 10**400], ids=lambda b: str(b)[:9]
    )
    def test_refuses_bad_deadlines(self, bad):
        with pytest.raises(InvalidArgument, match="at="):
            context.deadline(bad)

    def test_once_seen_survives_a_clock_that_goes_back(self, root, clock):
        seen = context.timeout(1.0, parent=root)
        unseen = context.timeout(1.0, parent=root)
        clock.advance(2.0)
        assert seen.done
        clock.set(1000.5)
        assert seen.done
        assert not unseen.done


class TestCancel:
    def test_reaches_descendants_only(self, root):
        top = context.with_cancel(root)
        left, right = context.with_cancel(top), context.with_cancel(top)
        leaf = context.with_value("k", 1, left)
        assert left.cancel() is True
        assert left.done
        assert leaf.done
        assert not right.done
        assert not top.done

    def test_only_the_first_counts(self, root):
        ctx = context.with_cancel(root)
        assert ctx.cancel("one") is True
        assert ctx.cancel("two") is False
        assert str(ctx.err()) == "context cancelled: one"

    def test_cause_text_and_exception(self, root):
        a, b, c, d = (context.with_cancel(root) for _ in range(4))
        a.cancel("SIGTERM")
        assert isinstance(a.cause(), Cancelled)
        assert str(a.cause()) == "SIGTERM"
        assert isinstance(a.err(), Cancelled)
        assert a.err().cause is a.cause()
        error = OSError("gone")
        b.cancel(error)
        assert b.cause() is error
        assert b.err().cause is error
        assert b.err().__cause__ is error
        c.cancel()
        assert isinstance(c.cause(), Cancelled)
        assert c.err().cause is None
        assert str(c.err()) == "context cancelled"
        d.cancel(KeyError())
        assert str(d.err()) == "context cancelled: KeyError"

    def test_child_shares_the_cause(self, root):
        top = context.with_cancel(root)
        child = context.timeout(5.0, parent=top)
        top.cancel("drain")
        assert child.cause() is top.cause()

    def test_each_error_is_new(self, root):
        ctx = context.with_cancel(root)
        ctx.cancel()
        first, second = ctx.err(), ctx.err()
        assert first is not second

    def test_child_of_an_ended_context_has_ended(self, root):
        top = context.with_cancel(root)
        top.cancel("over")
        child = context.timeout(5.0, parent=top)
        assert child.done
        assert "over" in str(child.err())

    def test_an_ended_parent_comes_before_a_deadline_of_the_same_instant(self, root):
        top = context.with_cancel(root)
        top.cancel("over")
        assert isinstance(context.timeout(0.0, parent=top).err(), Cancelled)

    @pytest.mark.parametrize("looked", [False, True])
    @pytest.mark.parametrize("at", [1001.0, 1002.0, 1003.0])
    def test_what_is_made_after_the_end_of_an_ancestor_reports_that(self, root, clock, looked, at):
        top = context.with_cancel(root)
        middle = context.with_cancel(top)
        clock.advance(1002.0 - clock.monotonic())
        top.cancel("over")
        assert not looked or middle.done
        clock.advance(1.0)
        late = context.deadline(at, parent=middle)
        assert late.cause() is top.cause()
        assert context.timeout(0.0, parent=middle).cause() is top.cause()

    def test_history_is_told_by_time_not_by_the_first_look(self, root, clock):
        top = context.with_cancel(root)
        early = context.timeout(1.0, parent=top)
        late = context.timeout(9.0, parent=top)
        inner = context.with_cancel(early)
        clock.advance(2.0)
        top.cancel("afterwards")
        clock.advance(20.0)
        assert isinstance(early.err(), DeadlineExceeded)
        assert isinstance(inner.err(), DeadlineExceeded)
        assert isinstance(late.err(), Cancelled)

    def test_cancel_after_an_unseen_deadline_comes_too_late(self, root, clock):
        ctx = context.timeout(1.0, parent=root)
        clock.advance(2.0)
        assert ctx.cancel() is False
        assert isinstance(ctx.err(), DeadlineExceeded)


class TestValues:
    def test_nearest_wins_and_default(self, root):
        a = context.with_value("k", 1, root)
        b = context.with_value("k", 2, context.with_cancel(a))
        assert a.value("k") == 1
        assert b.value("k") == 2
        assert b.value("other") is None
        assert b.value("other", 7) == 7
        assert root.value("k") is None

    def test_stored_none_is_a_value(self, root):
        assert context.with_value("k", None, root).value("k", "default") is None

    def test_flow_through_every_kind(self, root):
        a = context.with_value("k", 1, root)
        for child in (
            context.with_cancel(a),
            context.timeout(1.0, parent=a),
            context.deadline(5000.0, parent=a),
            context.without_cancel(a),
        ):
            assert child.value("k") == 1


class TestWithoutCancel:
    def test_keeps_values_and_clock_and_drops_the_rest(self, root, clock):
        top = context.timeout(1.0, parent=context.with_value("k", 1, root))
        free = context.without_cancel(top)
        assert free.deadline is None
        assert free.clock is clock
        top.cancel()
        clock.advance(10.0)
        assert not free.done
        assert free.value("k") == 1
        assert context.timeout(2.0, parent=free).remaining() == 2.0

    def test_may_be_cancelled_itself(self, root):
        free = context.without_cancel(context.with_cancel(root))
        assert free.cancel() is True
        assert free.done


class TestAfterFunc:
    def test_runs_once(self, root):
        ran = []
        ctx = context.with_cancel(root)
        stop = ctx.after_func(lambda: ran.append("a"))
        ctx.cancel()
        ctx.cancel()
        assert ran == ["a"]
        assert stop() is False

    def test_stop_prevents_and_says_so_once(self, root):
        ran = []
        ctx = context.with_cancel(root)
        stop = ctx.after_func(lambda: ran.append("a"))
        assert stop() is True
        assert stop() is False
        ctx.cancel()
        assert ran == []

    def test_runs_at_once_when_ended(self, root):
        ran = []
        ctx = context.with_cancel(root)
        ctx.cancel()
        stop = ctx.after_func(lambda: ran.append("a"))
        assert ran == ["a"]
        assert stop() is False

    def test_runs_at_once_when_the_parent_ended_unseen(self, root):
        ran = []
        top = context.with_cancel(root)
        child = context.with_cancel(top)
        top.cancel()
        child.after_func(lambda: ran.append("a"))
        assert ran == ["a"]

    def test_parents_come_before_children_in_order(self, root):
        ran = []
        top = context.with_cancel(root)
        child = context.with_cancel(top)
        leaf = context.with_cancel(child)
        leaf.after_func(lambda: ran.append("leaf"))
        child.after_func(lambda: ran.append("child"))
        top.after_func(lambda: ran.append("top 1"))
        top.after_func(lambda: ran.append("top 2"))
        top.cancel()
        assert ran == ["top 1", "top 2", "child", "leaf"]

    def test_deadline_rings_through_the_clock(self, root, clock):
        ran = []
        ctx = context.timeout(1.0, parent=root)
        ctx.after_func(lambda: ran.append(clock.monotonic()))
        ctx.after_func(lambda: ran.append("second"))
        clock.advance(5.0)
        assert ran == [1001.0, "second"]
        assert clock._timers == []

    def test_timer_exists_only_while_needed(self, root, clock):
        ctx = context.timeout(1.0, parent=root)
        assert not clock._timers
        stop = ctx.after_func(print)
        assert len(clock._timers) == 1
        stop()
        clock._drop_cancelled()
        assert not clock._timers

    def test_a_look_does_not_run_foreign_code(self, root, clock):
        ran = []
        ctx = context.timeout(1.0, parent=root)
        ctx.after_func(lambda: ran.append(1))
        clock.set(1005.0)
        assert ctx.done
        assert ran == []
        assert ctx.cancel() is False
        assert ran == [1]

    def test_clock_moved_while_arming(self, root, clock, monkeypatch):
        ran = []
        ctx = context.timeout(1.0, parent=root)
        real = ManualClock.call_at

        def slow(self, when, callback):
            clock.set(when + 1.0)
            return real(self, when, callback)

        monkeypatch.setattr(ManualClock, "call_at", slow)
        ctx.after_func(lambda: ran.append(1))
        assert ran == [1]

    def test_errors_are_reported_and_stop_nobody(self, root, monkeypatch):
        reports = []
        monkeypatch.setattr(sys, "unraisablehook", reports.append)
        ran = []
        ctx = context.with_cancel(root)
        ctx.after_func(lambda: 1 / 0)
        ctx.after_func(lambda: ran.append(1))
        assert ctx.cancel() is True
        assert ran == [1]
        (report,) = reports
        assert report.exc_type is ZeroDivisionError
        assert "callback of a context" in report.err_msg

    def test_another_thread_arms_or_stops_while_the_timer_is_set(self, root, clock, monkeypatch):
        """The timer that came too late is given back."""
        ctx = context.timeout(1.0, parent=root)
        real = ManualClock.call_at
        stops, raced = [], []

        def slow(self, when, callback):
            monkeypatch.setattr(ManualClock, "call_at", real)
            raced.append(ctx.after_func(print))  # arms first
            return real(self, when, callback)

        monkeypatch.setattr(ManualClock, "call_at", slow)
        stops.append(ctx.after_func(print))
        clock._drop_cancelled()
        assert sum(bool(cell) for _, _, cell in clock._timers) == 1
        for stop in stops + raced:
            assert stop() is True
        assert not any(cell for _, _, cell in clock._timers)

    def test_an_interrupt_waits_for_the_others(self, root):
        def interrupt():
            raise KeyboardInterrupt

        ran = []
        ctx = context.with_cancel(root)
        ctx.after_func(interrupt)
        ctx.after_func(lambda: ran.append(1))
        with pytest.raises(KeyboardInterrupt):
            ctx.cancel()
        assert ran == [1]

    def test_callbacks_may_use_the_tree(self, root):
        ran = []
        top = context.with_cancel(root)
        other = context.with_cancel(root)
        other.after_func(lambda: ran.append("other"))
        top.after_func(lambda: other.cancel("chained"))
        top.after_func(lambda: top.after_func(lambda: ran.append("nested")))
        top.cancel()
        assert ran == ["other", "nested"]

    def test_reentrant_cancel_in_the_middle_of_linking(self, root, monkeypatch):
        """What a signal handler may do: the callback still runs exactly once."""
        ran = []
        top = context.with_cancel(root)
        child = context.with_cancel(top)
        real = context.Context._link

        def interrupted(self):
            top.cancel("signal")
            real(self)

        monkeypatch.setattr(context.Context, "_link", interrupted)
        child.after_func(lambda: ran.append(1))
        assert ran == [1]
        assert top._live is None
        assert child._live is None


class TestLinks:
    """A context hangs on its parent only while somebody watches it."""

    def test_nothing_is_linked_without_a_watcher(self, root):
        top = context.with_cancel(root)
        context.timeout(1.0, parent=top)
        assert top._live is None

    def test_stop_unlinks_the_whole_chain(self, root):
        top = context.with_cancel(root)
        middle = context.with_cancel(top)
        leaf = context.with_cancel(middle)
        stop_leaf = leaf.after_func(print)
        stop_middle = middle.after_func(print)
        assert middle in top._live.children
        stop_leaf()
        assert leaf._live is None
        assert middle in top._live.children
        stop_middle()
        assert top._live is None

    def test_shared_ancestors_stay_while_needed(self, root):
        top = context.with_cancel(root)
        middle = context.with_cancel(top)
        one, two = context.with_cancel(middle), context.with_cancel(middle)
        stop_one = one.after_func(print)
        stop_two = two.after_func(print)
        stop_one()
        assert list(middle._live.children) == [two]
        stop_two()
        assert top._live is None

    def test_an_ended_subtree_is_unlinked(self, root):
        top = context.with_cancel(root)
        child = context.with_cancel(top)
        child.after_func(lambda: None)
        child.cancel()
        assert top._live is None

    def test_leaving_the_scope_unlinks(self, root):
        top = context.with_cancel(root)
        with context.timeout(5.0, parent=top) as ctx:
            ctx.after_func(lambda: None)
            assert top._live is not None
        assert top._live is None

    def test_no_cycles(self, root):
        gc.collect()
        gc.disable()
        try:
            ctx = context.timeout(5.0, parent=context.with_cancel(root))
            ref = weakref.ref(ctx)
            with ctx:
                stop = ctx.after_func(print)
                stop()
            del ctx, stop
            assert ref() is None
        finally:
            gc.enable()


class TestScope:
    def test_is_current_inside_only(self, root):
        with context.timeout(1.0, parent=root) as ctx:
            assert context.current() is ctx
            with context.with_value("k", 1) as inner:
                assert context.current() is inner
                assert inner.deadline == ctx.deadline
            assert context.current() is ctx
        assert context.current() is context.background()

    def test_leaving_ends_it_and_what_is_below(self, root):
        with context.with_cancel(root) as ctx:
            child = context.timeout(100.0, parent=ctx)
            ran = []
            child.after_func(lambda: ran.append(child.err()))
        assert isinstance(ctx.err(), Cancelled)
        assert "scope was left" in str(ctx.err())
        assert isinstance(ran[0], Cancelled)
        assert ctx.cancel() is False

    def test_a_child_first_seen_after_the_exit_was_cancelled(self, root, clock):
        with context.with_cancel(root) as ctx:
            child = context.timeout(1.0, parent=ctx)
        clock.advance(5.0)
        assert isinstance(child.err(), Cancelled)

    def test_a_deadline_that_passed_inside_is_kept(self, root, clock):
        with context.timeout(1.0, parent=root) as ctx:
            clock.advance(2.0)
        assert isinstance(ctx.err(), DeadlineExceeded)

    def test_a_parent_that_ended_meanwhile_is_kept(self, root):
        top = context.with_cancel(root)
        with context.with_cancel(top) as ctx:
            top.cancel("drain")
        assert "drain" in str(ctx.err())

    def test_carriers_outlive_their_scope(self, root):
        top = context.with_cancel(root)
        with context.with_value("k", 1, top) as value, context.without_cancel() as free:
            pass
        assert not value.done
        assert not free.done
        top.cancel()
        assert value.done

    def test_exceptions_pass_unchanged(self, root):
        error = ValueError("mine")
        with pytest.raises(ValueError, match="mine") as info, context.timeout(1.0, parent=root):
            raise error
        assert info.value is error

    def test_one_entry_at_a_time(self, root):
        ctx = context.with_cancel(root)
        with ctx, pytest.raises(InvalidArgument, match="entered already"), ctx:
            pass
        assert context.current() is context.background()

    def test_entering_an_ended_context(self, root):
        ctx = context.with_cancel(root)
        ctx.cancel("before")
        with pytest.raises(Cancelled, match="before"), ctx:
            ctx.check()

    def test_generator_closed_elsewhere(self, root):
        """The reset happens in another contextvars.Context than the set."""

        def numbers():
            with context.with_cancel(root):
                yield 1
                yield 2

        generator = numbers()
        elsewhere = contextvars.copy_context()
        assert elsewhere.run(next, generator) == 1
        assert elsewhere.run(context.current) is not context.background()
        generator.close()
        assert context.current() is context.background()

    def test_generator_closed_where_a_copy_of_it_is_current(self, root):
        outer = context.with_cancel(root)

        def numbers():
            with context.with_cancel(outer):
                yield 1

        with context.using(outer):
            generator = numbers()
            next(generator)
            contextvars.copy_context().run(self._close_and_look, generator, outer)
            next(generator, None)

    @staticmethod
    def _close_and_look(generator, outer):
        generator.close()
        assert context.current() is outer


class TestUsing:
    def test_owns_nothing(self, root):
        ctx = context.with_cancel(root)
        with context.using(ctx) as used, context.using(ctx):
            assert used is ctx
            assert context.current() is ctx
        assert not ctx.done
        assert context.current() is context.background()

    def test_one_block_cannot_be_entered_twice(self, root):
        block = context.using(context.with_cancel(root))
        with block, pytest.raises(InvalidArgument), block:
            pass
        assert context.current() is context.background()

    def test_left_elsewhere(self, root):
        ctx = context.with_cancel(root)
        block = context.using(ctx)
        contextvars.copy_context().run(block.__enter__)
        block.__exit__(None, None, None)
        assert context.current() is context.background()


class TestBind:
    def test_carries_the_context_and_other_variables(self, root):
        color = contextvars.ContextVar("color", default="none")
        with context.with_value("k", 1, root):
            color.set("red")
            bound = context.bind(lambda: (context.current().value("k"), color.get()))
        color.set("none")
        assert contextvars.Context().run(bound) == (1, "red")

    def test_explicit_context_and_arguments(self, root):
        ctx = context.with_cancel(root)

        def work(a, *, b):
            return context.current(), a, b

        bound = context.bind(work, ctx)
        assert bound(1, b=2) == (ctx, 1, 2)
        assert bound.__name__ == "work"
        assert context.current() is context.background()

    def test_calls_may_overlap(self, root):
        def recurse(n):
            return n if n == 0 else bound(n - 1)

        bound = context.bind(recurse, context.with_cancel(root))
        assert bound(5) == 0

    def test_coroutine_function(self, root, clock):
        ctx = context.with_cancel(root)

        async def work(a):
            return context.current() is ctx, a

        bound = context.bind(work, ctx)
        assert clock.run(bound(3)) == (True, 3)


class TestWaiting:
    def test_wait_times_out_or_sees_the_end(self, root, clock):
        assert context.with_cancel(root).wait(5.0) is False
        assert clock.monotonic() == 1005.0
        assert context.timeout(1.0, parent=root).wait() is True
        assert context.timeout(1.0, parent=root).wait(9.0) is True
        assert context.timeout(9.0, parent=root).wait(1.0) is False
        assert clock.monotonic() == 1008.0
        assert context.timeout(1.0, parent=root).wait(timedelta(seconds=1)) is True

    def test_wait_needs_no_timer_and_leaves_no_link(self, root, clock):
        top = context.with_cancel(root)
        context.timeout(1.0, parent=top).wait()
        assert top._live is None
        assert clock._timers == []

    def test_wait_refuses_negative(self, root):
        with pytest.raises(InvalidArgument, match="timeout"):
            context.with_cancel(root).wait(-1.0)

    def test_wait_survives_a_clock_set_back(self, root, clock):
        ctx = context.timeout(1.0, parent=root)
        real_wait = clock.wait
        waits = []

        class Faulty:
            monotonic = staticmethod(clock.monotonic)

            def wait(self, event, timeout):
                waits.append(timeout)
                got = real_wait(event, timeout)
                if len(waits) == 1:
                    clock.set(1000.0)
                return got

        ctx._clock = Faulty()
        assert ctx.wait() is True
        assert waits == [1.0, 1.0]

    def test_sleep(self, root, clock):
        with context.using(root):
            context.sleep(2.0)
            assert clock.monotonic() == 1002.0
            with pytest.raises(DeadlineExceeded), context.timeout(1.0):
                context.sleep(5.0)
            assert clock.monotonic() == 1003.0
        ctx = context.with_cancel(root)
        ctx.cancel("off")
        with pytest.raises(Cancelled, match="off"):
            context.sleep(1.0, ctx=ctx)
        assert clock.monotonic() == 1003.0
        with pytest.raises(InvalidArgument, match="seconds"):
            context.sleep(-1.0)


def test_repr_tells_the_state(root, clock):
    assert repr(root) == "<Context background>"
    assert repr(context.with_cancel(root)) == "<Context>"
    ctx = context.timeout(2.5, parent=root)
    assert repr(ctx) == "<Context, 2.5 s left>"
    clock.advance(3.0)
    assert repr(ctx) == "<Context ended: deadline exceeded>"


def test_errors_are_context_errors(root):
    ctx = context.with_cancel(root)
    ctx.cancel()
    with pytest.raises(ContextError):
        ctx.check()
    assert type(ctx).__module__ == "hastack.context"
