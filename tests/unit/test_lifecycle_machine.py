"""The phases of a life, decided at given times."""

from __future__ import annotations

import pytest

from hastack._lifecycle import _order
from hastack._lifecycle._machine import (
    READY_INTERVAL,
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
from hastack.errors import Cancelled, ShutdownRequested

CAUSE = ShutdownRequested("test")
BUDGET = Budget(lame_duck=30.0, drain=20.0, stop=10.0)


def spec(name, *needs, steps="start stop", start=60.0):
    return Spec(name, needs, frozenset(Step(each) for each in steps.split()), start)


def runs(actions):
    return [(each.name, each.step.value) for each in actions if isinstance(each, Run)]


def phases(actions):
    return [each.phase for each in actions if isinstance(each, Enter)]


def report(actions):
    (found,) = [each.report for each in actions if isinstance(each, Finish)]
    return found


def serving(*specs, budget=BUDGET):
    machine = Machine(specs, budget)
    todo = machine.start(0.0)
    while machine.phase is not Phase.SERVING:
        todo = [
            more
            for name, step in runs(todo)
            for more in machine.done(0.0, name, Step(step), answer=True)
        ]
    return machine


class TestOrder:
    def test_start_order_puts_needs_first_and_otherwise_keeps_the_order(self):
        graph = {"http": ["db", "cache"], "db": [], "cache": ["db"], "log": []}
        assert _order.start_order(graph) == ("db", "cache", "log", "http")

    def test_cycles_are_shown_as_a_path(self):
        assert _order.cycle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
        assert _order.cycle({"a": ["a"]}) == ["a", "a"]

    def test_a_diamond_is_no_cycle_and_unknown_names_are_leaves(self):
        graph = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": ["elsewhere"]}
        assert _order.cycle(graph) is None
        assert _order.missing(graph) == [("d", "elsewhere")]

    def test_a_long_chain_needs_no_recursion(self):
        graph = {str(n): [str(n + 1)] for n in range(5000)}
        assert _order.cycle(graph) is None

    def test_heights_and_dependents(self):
        graph = {"a": ["b"], "b": ["c"], "c": [], "d": ["c"]}
        assert _order.heights(graph) == {"c": 1, "b": 2, "d": 2, "a": 3}
        assert _order.dependents(graph) == {"a": (), "b": ("a",), "c": ("b", "d"), "d": ()}


class TestStart:
    def test_independent_ones_start_together_dependent_ones_after(self):
        machine = Machine([spec("http", "db", "mq"), spec("db"), spec("mq")], BUDGET)
        first = machine.start(0.0)
        assert phases(first) == [Phase.STARTING]
        assert runs(first) == [("db", "start"), ("mq", "start")]
        assert runs(machine.done(1.0, "mq", Step.START)) == []
        assert runs(machine.done(2.0, "db", Step.START)) == [("http", "start")]
        assert phases(machine.done(3.0, "http", Step.START)) == [Phase.SERVING]
        assert machine.next_wakeup is None

    def test_a_second_start_does_nothing(self):
        machine = Machine([], BUDGET)
        assert phases(machine.start(0.0)) == [Phase.STARTING, Phase.SERVING]
        assert machine.start(0.0) == []

    def test_parts_without_steps_are_carried_through_in_one_pass(self):
        machine = Machine([spec("a", steps="stop"), spec("b", "a", steps="stop")], BUDGET)
        assert phases(machine.start(0.0)) == [Phase.STARTING, Phase.SERVING]

    def test_ready_is_asked_again_until_it_says_yes(self):
        machine = Machine([spec("a", steps="start ready")], BUDGET)
        machine.start(0.0)
        assert machine.next_wakeup == 60.0
        assert runs(machine.done(1.0, "a", Step.START)) == [("a", "ready")]
        assert machine.done(2.0, "a", Step.READY, answer=False) == []
        assert machine.next_wakeup == 2.0 + READY_INTERVAL
        assert machine.tick(2.0) == []
        assert runs(machine.tick(2.0 + READY_INTERVAL)) == [("a", "ready")]
        assert phases(machine.done(3.0, "a", Step.READY)) == [Phase.SERVING]

    def test_never_ready_fails_after_the_start_timeout_and_is_stopped(self):
        machine = Machine([spec("a", steps="start ready stop", start=5.0)], BUDGET)
        machine.start(0.0)
        machine.done(1.0, "a", Step.START)
        machine.done(4.9, "a", Step.READY, answer=False)
        out = machine.tick(5.0)
        assert runs(out) == [("a", "stop")]
        end = report(machine.done(5.5, "a", Step.STOP))
        assert end.start_failed == "a"
        assert str(end.cause) == "a did not become ready within 5 s"
        assert end.stopped == ("a",)

    def test_a_start_failure_stops_what_had_started_in_reverse(self):
        boom = OSError("port taken")
        machine = Machine([spec("db"), spec("mq", "db"), spec("http", "mq")], BUDGET)
        machine.start(0.0)
        machine.done(1.0, "db", Step.START)
        machine.done(1.0, "mq", Step.START)
        out = machine.done(2.0, "http", Step.START, boom)
        assert phases(out) == [Phase.STOPPING]
        assert [each.cause for each in out if isinstance(each, CancelRoot)] == [boom]
        assert runs(out) == [("mq", "stop")]
        assert runs(machine.done(3.0, "mq", Step.STOP)) == [("db", "stop")]
        end = report(machine.done(4.0, "db", Step.STOP))
        assert (end.start_failed, end.cause, end.stopped) == ("http", boom, ("mq", "db"))
        assert not end.ok
        assert end.stop == 2.0

    def test_a_start_that_hangs_is_given_up_and_reported(self):
        machine = Machine([spec("a", start=5.0), spec("b")], BUDGET)
        machine.start(0.0)
        machine.done(0.0, "b", Step.START)
        out = machine.tick(5.0)
        assert GiveUp("a", Step.START) in out
        assert runs(out) == [("b", "stop")]
        machine.done(6.0, "b", Step.STOP)
        end = report(machine.tick(15.0))
        assert end.not_stopped == ("a",)
        assert end.stopped == ("b",)

    def test_a_start_that_ends_during_the_unwinding_is_stopped_too(self):
        machine = Machine([spec("a", start=5.0)], BUDGET)
        machine.start(0.0)
        machine.tick(5.0)
        assert runs(machine.done(6.0, "a", Step.START)) == [("a", "stop")]
        assert report(machine.done(7.0, "a", Step.STOP)).stopped == ("a",)

    def test_a_start_that_fails_during_the_unwinding_needs_no_stop(self):
        machine = Machine([spec("a"), spec("b")], BUDGET)
        machine.start(0.0)
        machine.done(1.0, "b", Step.START, OSError())
        end = report(machine.done(2.0, "a", Step.START, OSError()))
        assert end.stopped == ()
        assert [name for name, _, _ in end.errors] == ["b", "a"]

    def test_a_start_that_was_cancelled_by_the_end_is_no_error(self):
        machine = Machine([spec("a")], BUDGET)
        machine.start(0.0)
        machine.shutdown(1.0, CAUSE)
        end = report(machine.done(2.0, "a", Step.START, Cancelled()))
        assert end.ok
        assert end.errors == end.stopped == end.not_stopped == ()

    def test_a_late_start_is_stopped_even_after_its_share_of_the_time(self):
        machine = Machine([spec("low"), spec("high", "low", start=5.0)], BUDGET)
        machine.start(0.0)
        machine.done(0.0, "low", Step.START)
        machine.tick(5.0)  # high hangs in its start: until 15 to stop, its share ends at 10
        assert runs(machine.tick(10.0)) == [("low", "stop")]
        assert runs(machine.done(11.0, "high", Step.START)) == [("high", "stop")]
        machine.done(12.0, "low", Step.STOP)
        assert report(machine.done(13.0, "high", Step.STOP)).stopped == ("low", "high")

    def test_shutdown_while_starting_unwinds(self):
        machine = Machine([spec("a"), spec("b", "a")], BUDGET)
        machine.start(0.0)
        machine.done(1.0, "a", Step.START)
        out = machine.shutdown(2.0, CAUSE)
        assert phases(out) == [Phase.STOPPING]
        assert GiveUp("b", Step.START) in out
        assert runs(machine.done(2.5, "b", Step.START, OSError())) == [("a", "stop")]
        end = report(machine.done(3.0, "a", Step.STOP))
        assert end.start_failed is None
        assert end.cause is CAUSE


class TestShutdown:
    def test_lame_duck_then_drain_then_cancel_then_stop_in_reverse(self):
        machine = serving(spec("db"), spec("http", "db", steps="start drain stop"))
        assert phases(machine.shutdown(100.0, CAUSE)) == [Phase.LAME_DUCK]
        assert machine.next_wakeup == 130.0
        assert machine.tick(129.9) == []
        out = machine.tick(130.0)
        assert phases(out) == [Phase.DRAINING]
        assert out[-1] == Run("http", Step.DRAIN, 150.0)
        out = machine.done(135.0, "http", Step.DRAIN)
        assert [type(each) for each in out] == [Enter, CancelRoot, Run]
        assert out[1:] == [CancelRoot(CAUSE), Run("http", Step.STOP, 145.0)]
        assert runs(machine.done(136.0, "http", Step.STOP)) == [("db", "stop")]
        end = report(machine.done(137.0, "db", Step.STOP))
        assert end.ok
        assert (end.lame_duck, end.drain, end.stop, end.duration) == (30.0, 5.0, 2.0, 37.0)
        assert end.budget == 60.0
        assert machine.phase is Phase.STOPPED
        assert machine.next_wakeup is None

    def test_only_the_first_wish_counts(self):
        machine = serving()
        machine.shutdown(0.0, CAUSE)
        assert machine.shutdown(1.0, OSError()) == []
        assert machine.cause is CAUSE

    def test_before_the_start_there_is_nothing_to_stop(self):
        machine = Machine([spec("a")], BUDGET)
        assert report(machine.shutdown(0.0, CAUSE)).ok
        assert machine.start(1.0) == []
        assert machine.shutdown(2.0, CAUSE) == []
        assert machine.abort(2.0) == []
        assert machine.tick(3.0) == []

    def test_without_lame_duck_it_drains_at_once(self):
        machine = serving(spec("a"), budget=Budget(0.0, 1.0, 1.0))
        out = machine.shutdown(5.0, CAUSE)
        assert phases(out) == [Phase.LAME_DUCK, Phase.DRAINING, Phase.STOPPING]

    def test_a_drain_past_its_deadline_is_given_up_but_stopped(self):
        machine = serving(spec("http", steps="start drain stop"))
        machine.shutdown(0.0, CAUSE)
        machine.tick(30.0)
        assert machine.next_wakeup == 50.0
        out = machine.tick(50.0)
        assert GiveUp("http", Step.DRAIN) in out
        assert runs(out) == [("http", "stop")]
        assert machine.done(51.0, "http", Step.DRAIN) == []  # nobody waits for it any more
        end = report(machine.done(52.0, "http", Step.STOP))
        assert end.not_drained == ("http",)
        assert end.not_stopped == ()
        assert not end.ok

    def test_a_hanging_drain_does_not_hold_up_those_below(self):
        machine = serving(
            spec("queue", steps="start drain stop"),
            spec("http", "queue", steps="start drain stop"),
        )
        machine.shutdown(0.0, CAUSE)
        machine.tick(30.0)
        assert machine.next_wakeup == 40.0  # half of the drain time each
        assert runs(machine.tick(40.0)) == [("queue", "drain")]
        assert machine.done(41.0, "queue", Step.DRAIN) == []  # http may still make it
        assert phases(machine.done(49.0, "http", Step.DRAIN)) == [Phase.STOPPING]

    def test_a_hanging_stop_does_not_hold_up_those_below_and_is_reported(self):
        machine = serving(spec("db"), spec("mid", "db"), spec("http", "mid"))
        machine.shutdown(0.0, CAUSE)
        out = machine.tick(30.0)
        assert runs(out) == [("http", "stop")]
        assert machine.next_wakeup == pytest.approx(30.0 + 10.0 / 3)
        assert runs(machine.tick(33.4)) == [("mid", "stop")]
        assert runs(machine.done(34.0, "mid", Step.STOP)) == [("db", "stop")]
        assert machine.done(35.0, "db", Step.STOP) == []
        assert machine.next_wakeup == 40.0
        out = machine.tick(40.0)
        assert GiveUp("http", Step.STOP) in out
        end = report(out)
        assert end.not_stopped == ("http",)
        assert end.stopped == ("mid", "db")
        assert "did not stop: http" in str(end)

    def test_a_stop_that_raises_counts_as_down_and_is_reported(self):
        machine = serving(spec("db"), spec("http", "db"))
        machine.shutdown(0.0, CAUSE)
        machine.tick(30.0)
        boom = OSError("x")
        assert runs(machine.done(31.0, "http", Step.STOP, boom)) == [("db", "stop")]
        end = report(machine.done(32.0, "db", Step.STOP))
        assert end.errors == (("http", "stop", boom),)
        assert (end.stopped, end.not_stopped) == (("db",), ())
        assert "http.stop raised OSError: x" in str(end)

    def test_steps_that_noticed_the_end_of_their_time_did_not_do_their_work(self):
        machine = serving(spec("a", steps="start drain stop"))
        machine.shutdown(0.0, CAUSE)
        machine.tick(30.0)
        assert machine.tick(31.0) == []
        machine.done(50.0, "a", Step.DRAIN, TimeoutError())
        assert machine.tick(50.5) == []
        end = report(machine.done(60.0, "a", Step.STOP, TimeoutError()))
        assert (end.not_drained, end.not_stopped, end.errors) == (("a",), ("a",), ())

    def test_parts_without_a_stop_count_as_stopped(self):
        machine = serving(spec("a", steps="start"))
        machine.shutdown(0.0, CAUSE)
        assert report(machine.tick(30.0)).stopped == ("a",)

    @pytest.mark.parametrize("at", ["starting", "serving", "lame_duck", "draining", "stopping"])
    def test_abort_ends_at_once_from_everywhere(self, at):
        machine = Machine([spec("a", steps="start drain stop")], BUDGET)
        machine.start(0.0)
        if at != "starting":
            machine.done(0.0, "a", Step.START)
        if at not in {"starting", "serving"}:
            machine.shutdown(1.0, CAUSE)
        if at in {"draining", "stopping"}:
            machine.tick(31.0)
        if at == "stopping":
            machine.done(32.0, "a", Step.DRAIN)
        assert machine.phase.value == at
        out = machine.abort(33.0)
        end = report(out)
        assert end.aborted
        assert end.not_stopped == ("a",)
        assert not end.ok
        assert str(end).startswith("aborted after")
        cancels = [each for each in out if isinstance(each, CancelRoot)]
        assert bool(cancels) is (at != "stopping")  # there it is cancelled already
        assert machine.abort(34.0) == []

    def test_the_report_reads_well(self):
        machine = serving(spec("http", steps="start drain stop"))
        machine.shutdown(0.0, CAUSE)
        machine.tick(30.0)
        machine.tick(50.0)
        end = report(machine.done(51.0, "http", Step.STOP))
        assert str(end) == (
            "stopped after 51.00 s of 60 s (lame duck 30.00, drain 20.00, stop 1.00): test; "
            "did not drain: http"
        )
