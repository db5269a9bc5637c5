"""The shell around the machine: threads, tasks, context and reports, in manual time."""

from __future__ import annotations

import asyncio
import signal
import threading
from functools import partial

import pytest

from hastack import context, events
from hastack._core._clock import SYSTEM_CLOCK
from hastack.errors import InvalidArgument, LifecycleError, StartFailed, StopFailed
from hastack.lifecycle import (
    ComponentFailed,
    ComponentStarted,
    ComponentStopped,
    Lifecycle,
    Phase,
    PhaseChanged,
    ShutdownFinished,
    ShutdownRequested,
    ShutdownStarted,
)
from hastack.testing import ManualClock


def quick(**options):
    return Lifecycle("orders", **{"lame_duck": 0.0, "drain": 5.0, "stop": 5.0, **options})


class Recorder:
    def __init__(self):
        self.seen = []

    def __call__(self, what, result=None):
        def call():
            self.seen.append(what)
            if isinstance(result, BaseException):
                raise result
            return result

        return call

    def acall(self, what, result=None):
        async def call():
            await asyncio.sleep(0)
            return self(what, result)()

        return call


class TestDescribing:
    def test_the_budget_is_computed(self):
        life = Lifecycle(probe_period=10.0, probe_failures=3, drain=20.0, stop=10.0)
        assert life.times.lame_duck == 30.0
        assert life.budget == 60.0
        assert Lifecycle(lame_duck=0, drain=1, stop=2).budget == 3.0

    @pytest.mark.parametrize(
        ("options", "parameter"),
        [
            ({"name": ""}, "name"),
            ({"lame_duck": -1}, "lame_duck"),
            ({"drain": float("nan")}, "drain"),
            ({"stop": "soon"}, "stop"),
            ({"start": 0}, "start"),
            ({"probe_period": 0}, "probe_period"),
            ({"probe_failures": 0}, "probe_failures"),
        ],
    )
    def test_bad_options_are_named(self, options, parameter):
        with pytest.raises(InvalidArgument) as caught:
            Lifecycle(**options)
        assert caught.value.parameter == parameter

    def test_bad_components(self):
        life = quick()
        life.add("a", depends_on=["b"])
        for name, options, parameter in [
            ("a", {}, "component"),
            ("", {}, "component"),
            ("b", {"depends_on": ["a"]}, "depends_on"),
            ("c", {"depends_on": ["c"]}, "depends_on"),
            ("d", {"stop": 5}, "stop"),
            ("e", {"start_timeout": 0}, "start_timeout"),
        ]:
            with pytest.raises(InvalidArgument) as caught:
                life.add(name, **options)
            assert caught.value.parameter == parameter
        with pytest.raises(InvalidArgument, match="a -> b"):
            life.start()

    def test_an_object_is_a_component(self):
        record = Recorder()

        class Db:
            name = "db"
            depends_on = ("log",)

            def start(self):
                record("db up")()

            async def stop(self):
                record("db down")()

        life = quick()
        life.add(Db())
        life.add("log", start=record("log up"))
        assert life.components == ("db", "log")
        with life:
            pass
        assert record.seen == ["log up", "db up", "db down"]


class TestLiving:
    def test_sync_and_async_components_together_in_a_sync_service(self):
        record = Recorder()
        life = quick()
        life.add("a", start=record.acall("a up"), stop=record.acall("a down"))
        life.add("b", start=record("b up"), stop=record("b down"), depends_on=["a"])
        life.add("c", start=lambda: record.acall("c up")(), depends_on=["b"])  # seen when called
        with life:
            assert life.phase is Phase.SERVING
            assert life.ready
        assert record.seen == ["a up", "b up", "c up", "b down", "a down"]
        assert life.report.ok
        assert life.report.stopped == ("c", "b", "a")
        assert not life.ready

    def test_in_an_async_service_async_components_run_on_its_loop(self):
        loops = []

        async def where():
            loops.append(asyncio.get_running_loop())

        life = quick()
        life.add("a", start=where, drain=partial(where), stop=where)
        life.add("b", start=lambda: loops.append(threading.current_thread()))

        async def main():
            async with life:
                assert life.ready
            return asyncio.get_running_loop()

        loop = asyncio.run(main())
        assert loops.count(loop) == 3
        assert threading.main_thread() not in loops

    def test_it_keeps_serving_for_the_lame_duck_time_but_is_not_ready(self):
        clock = ManualClock(autojump=None)
        life = Lifecycle(lame_duck=30.0, drain=1.0, stop=1.0, clock=clock)
        life.start()
        life.shutdown()
        assert not life.ready  # at once, before the thread has even looked
        self.until(lambda: life.phase is Phase.LAME_DUCK)
        assert life.context.err() is None
        clock.advance(29.9)
        assert life.phase is Phase.LAME_DUCK
        clock.advance(0.2)
        self.until(lambda: life.report is not None)
        assert life.report.lame_duck == pytest.approx(30.1)

    @staticmethod
    def until(condition):
        for _ in range(2000):
            if condition():
                return
            threading.Event().wait(0.005)
        raise AssertionError("waited 10 s")

    def test_manual_time_jumps_over_the_lame_duck(self):
        clock = ManualClock()
        life = Lifecycle(lame_duck=3600.0, clock=clock)
        begin = clock.monotonic()
        with life:
            pass
        assert clock.monotonic() - begin >= 3600.0

    def test_the_root_context_is_current_in_start_and_cancelled_before_stop(self):
        seen = {}
        life = quick()

        def start():
            seen["start"] = context.current()

        def drain():
            seen["drain"] = (life.context.done, context.current().remaining())

        def stop():
            seen["stop"] = (life.context.cause(), context.current().remaining())

        life.add("a", start=start, drain=drain, stop=stop)
        with life:
            pass
        assert seen["start"] is life.context
        cancelled, left = seen["drain"]
        assert not cancelled
        assert 4.0 < left <= 5.0
        cause, left = seen["stop"]
        assert isinstance(cause, ShutdownRequested)
        assert 4.0 < left <= 5.0

    def test_the_cause_given_is_the_cause_seen(self):
        life = quick()
        cause = OSError("disk full")
        with life:
            life.shutdown(cause)
            life.wait(10.0)
        assert life.context.cause() is cause
        assert life.report.cause is cause

    def test_a_parent_that_ends_takes_the_service_with_it(self):
        parent = context.with_cancel(context.background())
        life = quick(parent=parent)
        life.start()
        parent.cancel(OSError("enough"))
        assert life.wait(10.0).cause.args == ("enough",)

    def test_ready_is_polled(self):
        answers = iter([False, False, True])
        life = quick()
        life.add("a", ready=lambda: next(answers))
        with life:
            assert next(answers, None) is None

    def test_a_second_start_is_refused_and_waiting_needs_a_start(self):
        life = quick()
        with pytest.raises(LifecycleError, match="not started"):
            life.wait()
        with life:
            with pytest.raises(LifecycleError, match="started before"):
                life.start()
            with pytest.raises(LifecycleError, match="too late"):
                life.add("late")
            assert life.wait(0.0) is None
        assert life.wait().ok

    def test_phase_listeners(self, monkeypatch):
        shown = []
        monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_value))
        seen = []
        life = quick()
        life.on_phase(lambda phase: 1 / 0)
        life.on_phase(seen.append)
        life.on_phase(pytest.fail)()  # removed again
        with life:
            pass
        assert seen == [each for each in Phase if each is not Phase.NEW]
        assert len(shown) == len(seen)

    def test_events(self):
        seen = []
        end = events.subscribe(
            seen.append,
            PhaseChanged,
            ComponentStarted,
            ComponentStopped,
            ComponentFailed,
            ShutdownStarted,
            ShutdownFinished,
        )
        life = quick()
        life.add("a", start=lambda: None, stop=lambda: None)
        life.add("b", start=lambda: None, ready=lambda: True, stop=lambda: 1 / 0)
        try:
            with pytest.raises(StopFailed), life:
                pass
        finally:
            end()
        kinds = [type(each) for each in seen]
        assert kinds.count(ComponentStarted) == 2
        assert kinds.count(ComponentStopped) == 1
        (failed,) = [each for each in seen if isinstance(each, ComponentFailed)]
        assert (failed.component, failed.step.value) == ("b", "stop")
        assert kinds.count(ShutdownStarted) == 1
        assert seen[-1].report is life.report


class TestFailures:
    def test_a_start_failure_stops_the_others_and_names_the_culprit(self):
        record = Recorder()
        boom = OSError("port taken")
        life = quick()
        life.add("db", start=record("db up"), stop=record("db down"))
        life.add("http", start=record("http", boom), stop=record("never"), depends_on=["db"])
        with pytest.raises(StartFailed, match="http of orders did not start: port taken") as caught:
            life.start()
        assert caught.value.component == "http"
        assert caught.value.__cause__ is boom
        assert caught.value.report.stopped == ("db",)
        assert record.seen == ["db up", "http", "db down"]
        assert life.context.cause() is boom

    def test_the_same_on_a_loop(self):
        record = Recorder()
        life = quick()
        life.add("db", start=record.acall("db up"), stop=record.acall("db down"))
        life.add("http", start=record.acall("http", OSError("x")), depends_on=["db"])

        async def main():
            with pytest.raises(StartFailed):
                await life.run_async()
            with pytest.raises(LifecycleError):
                async with life:
                    pass

        asyncio.run(main())
        assert record.seen == ["db up", "http", "db down"]

    def test_an_async_start_that_hangs_is_cancelled(self):
        ends = []

        async def hang():
            try:
                await asyncio.sleep(1000.0)
            finally:
                ends.append("cancelled")

        life = quick()
        life.add("a", start=hang, start_timeout=0.05)
        with pytest.raises(StartFailed, match=r"a did not start within 0\.05 s"):
            life.start()
        assert ends == ["cancelled"]

    def test_shutdown_before_the_start_is_over(self):
        gate = threading.Event()
        life = quick()
        life.add("a", start=lambda: gate.wait(10.0), stop=lambda: None)

        def later():
            life.shutdown()
            gate.set()

        threading.Timer(0.02, later).start()
        with pytest.raises(StartFailed, match="told to end while starting"):
            life.start()
        assert life.report.stopped == ("a",)

    def test_what_did_not_stop_is_named(self):
        gate = threading.Event()
        life = quick(stop=0.05)
        life.add("db", stop=lambda: None)
        life.add("http", stop=lambda: gate.wait(10.0), depends_on=["db"])
        with pytest.raises(StopFailed, match="did not stop: http") as caught, life:
            pass
        gate.set()
        assert caught.value.components == ("http",)
        assert caught.value.report.stopped == ("db",)
        assert life.report.duration < 1.0

    def test_a_drain_that_hangs_is_cancelled_and_named(self):
        ends = []

        async def hang():
            try:
                await asyncio.sleep(1000.0)
            finally:
                ends.append(1)

        life = quick(drain=0.05)
        life.add("http", drain=hang, stop=lambda: None)

        async def main():
            with pytest.raises(StopFailed, match="did not drain: http"):
                async with life:
                    pass

        asyncio.run(main())
        assert ends == [1]

    def test_an_error_of_the_body_is_the_cause_and_passes(self):
        life = quick()
        life.add("a", stop=lambda: 1 / 0)
        with pytest.raises(KeyError), life:
            raise KeyError("mine")
        assert isinstance(life.report.cause, KeyError)

        async def main():
            async with quick():
                raise KeyError("mine")

        with pytest.raises(KeyError):
            asyncio.run(main())

    def test_abort(self):
        life = quick(lame_duck=1000.0)
        life.add("a", stop=lambda: None)
        life.start()
        life.shutdown()
        life.abort()
        report = life.wait(10.0)
        assert report.aborted
        assert report.not_stopped == ("a",)

    def test_system_exit_in_a_step_does_not_end_the_loop(self):
        async def leave():
            raise SystemExit(3)

        life = quick()
        life.add("a", stop=leave)

        async def main():
            with pytest.raises(StopFailed):
                async with life:
                    pass

        asyncio.run(main())

    def test_cancelling_run_async_shuts_down_first(self):
        record = Recorder()
        life = quick()
        life.add("a", start=record.acall("up"), stop=record.acall("down"))

        async def main():
            task = asyncio.create_task(life.run_async())
            await asyncio.to_thread(TestLiving.until, lambda: life.phase is Phase.SERVING)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert life.report is not None

        asyncio.run(main())
        assert record.seen == ["up", "down"]

    def test_cancelling_twice_aborts(self):
        life = quick(lame_duck=1000.0)

        async def main():
            task = asyncio.create_task(life.run_async())
            await asyncio.to_thread(TestLiving.until, lambda: life.phase is Phase.SERVING)
            task.cancel()
            await asyncio.to_thread(TestLiving.until, lambda: life.phase is Phase.LAME_DUCK)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert life.report.aborted


def test_a_service_that_was_up_and_is_over_before_start_returns_did_start():
    life = quick()
    life.on_phase(lambda phase: life.shutdown() if phase is Phase.SERVING else None)

    class Slow:
        """The process clock, whose waits return late."""

        def __getattr__(self, name):
            return getattr(SYSTEM_CLOCK, name)

        def wait(self, event, timeout=None):
            life._conductor.finished.event.wait(10.0)
            return event.wait(timeout)

    life._clock = Slow()
    assert life.run().ok


class TestWorkers:
    def test_a_thread_and_a_task_end_with_the_service(self):
        seen = []

        def thread():
            context.current().wait()
            seen.append(("thread", context.current().cause().args))

        async def task():
            try:
                await asyncio.sleep(1000.0)
            finally:
                seen.append("task")

        life = quick()
        life.add_worker("thread", thread)
        life.add_worker("task", task)

        async def main():
            async with life:
                await asyncio.sleep(0.02)
                life.shutdown(OSError("bye"))

        asyncio.run(main())
        assert sorted(seen, key=str) == [("thread", ("bye",)), "task"]
        assert life.report.ok

    def test_one_that_raises_ends_the_service_with_its_error(self):
        boom = OSError("queue gone")
        gate = threading.Event()

        def fail():
            gate.wait(10.0)
            raise boom

        life = quick()
        life.add_worker("consumer", fail)
        life.start()
        gate.set()
        assert life.wait(10.0).cause is boom

    def test_one_that_returns_is_fine_and_one_that_stays_is_named(self):
        gate = threading.Event()
        life = quick(stop=0.05)
        life.add_worker("short", lambda: None)
        life.add_worker("deaf", lambda: gate.wait(30.0))
        with pytest.raises(StopFailed) as caught, life:
            assert life.ready
        gate.set()
        assert caught.value.components == ("deaf",)
        assert caught.value.report.not_stopped == ("deaf",)


class TestSignals:
    def test_handlers_are_owned_while_running_and_put_back(self):
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        life = quick()
        with life:
            assert signal.getsignal(signal.SIGTERM) not in before
            signal.raise_signal(signal.SIGTERM)
            assert not life.ready
            report = life.wait(10.0)
        assert report.cause.signal == signal.SIGTERM
        assert str(report.cause) == "received SIGTERM"
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before

    def test_they_are_put_back_when_the_start_fails(self):
        before = signal.getsignal(signal.SIGTERM)
        life = quick()
        life.add("a", start=lambda: 1 / 0)
        with pytest.raises(StartFailed):
            life.run()
        assert signal.getsignal(signal.SIGTERM) is before

    def test_outside_of_the_main_thread_signals_are_left_alone(self):
        before = signal.getsignal(signal.SIGTERM)
        life = quick()
        results = []
        thread = threading.Thread(target=lambda: results.append(life.run()))
        thread.start()
        TestLiving.until(lambda: life.ready)
        assert signal.getsignal(signal.SIGTERM) is before
        life.shutdown()
        thread.join(10.0)
        assert results[0].ok

    def test_run_with_async_components_runs_a_loop(self):
        record = Recorder()
        life = quick()
        life.add("a", start=record.acall("up"), stop=record.acall("down"))
        threading.Timer(0.05, life.shutdown).start()
        assert life.run().ok
        assert record.seen == ["up", "down"]


class TestConductor:
    def test_a_fault_of_its_own_ends_the_service_and_leaves_nobody_waiting(
        self, monkeypatch, caplog
    ):
        life = quick()
        life.add("a", stop=lambda: None)
        life.start()
        monkeypatch.setattr(life._conductor, "_shutdown", lambda *a: 1 / 0)
        life.shutdown()
        report = life.wait(10.0)
        assert report.aborted
        assert report.not_stopped == ("a",)
        assert life.context.done
        assert "the lifecycle failed" in caplog.text

    def test_no_thread_to_be_had_is_a_failed_step(self, monkeypatch):
        from hastack._lifecycle._steps import Steps

        def run(*args, **options):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(Steps, "run", run)
        life = quick()
        life.add("a", start=lambda: None)
        with pytest.raises(StartFailed, match="can't start new thread"):
            life.start()
