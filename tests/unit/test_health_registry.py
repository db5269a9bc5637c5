"""Checks, heartbeats and verdicts of one service, in manual time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading

import pytest

from hastack import context, events
from hastack._health_endpoints import Endpoints
from hastack._health_metrics import EventCounter
from hastack.errors import InvalidArgument
from hastack.health import Health, HealthChanged, Status
from hastack.lifecycle import Lifecycle
from hastack.testing import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def health(clock):
    return Health("orders", clock=clock)


class TestChecks:
    def test_without_checks_it_is_ready_alive_and_started(self, health):
        assert health.readiness()
        assert health.liveness()
        assert health.startup()

    @pytest.mark.parametrize(
        ("behaviour", "why"),
        [
            (lambda: 1 / 0, "db: ZeroDivisionError: division by zero"),
            (lambda: False, "db: returned False"),
        ],
    )
    def test_a_failing_check_is_named(self, health, behaviour, why):
        health.add_check("db", behaviour)
        verdict = health.readiness()
        assert verdict.status is Status.FAIL
        assert verdict.failing == (why,)

    def test_a_string_is_shown(self, health):
        health.add_check("db", lambda: "5 idle connections")
        (check,) = health.readiness().checks
        assert (check.ok, check.detail) == (True, "5 idle connections")

    def test_an_exception_text_is_bounded(self, health):
        def check():
            raise OSError("x" * 10_000)

        health.add_check("db", check)
        assert len(health.readiness().failing[0]) < 250

    def test_results_are_cached_for_the_ttl(self, health, clock):
        calls = []
        health.add_check("db", lambda: calls.append(1), ttl=5.0)
        for _ in range(3):
            assert health.readiness()
        assert len(calls) == 1
        clock.advance(5.0)
        assert health.readiness()
        assert len(calls) == 2

    def test_the_known_readiness_asks_nobody(self, health):
        calls = []
        health.add_check("db", lambda: calls.append(1))
        assert health.last_readiness().failing == ("db: not checked yet",)
        assert calls == []
        health.readiness()
        assert health.last_readiness()

    def test_hysteresis(self, health, clock):
        answers = iter([True, False, True, False, False, True])
        health.add_check("db", lambda: next(answers), ttl=0.0, failures=2)
        assert [bool(health.readiness()) for _ in range(6)] == [True] * 4 + [False, True]

    def test_checks_run_in_parallel(self, health):
        barrier = threading.Barrier(3, timeout=10.0)
        for name in "abc":
            health.add_check(name, barrier.wait, timeout=60.0)
        assert health.readiness()

    def test_one_run_at_a_time_however_many_ask(self):
        health = Health()  # real time: real threads meet here
        calls, gate = [], threading.Event()

        def check():
            calls.append(1)
            assert gate.wait(10.0)

        health.add_check("db", check, timeout=10.0)
        verdicts = []
        threads = [
            threading.Thread(target=lambda: verdicts.append(health.readiness())) for _ in range(8)
        ]
        for each in threads:
            each.start()
        gate.set()
        for each in threads:
            each.join(10.0)
        assert len(calls) == 1
        assert [bool(each) for each in verdicts] == [True] * 8

    def test_a_hanging_check_fails_after_its_timeout_and_is_not_started_again(self, health, clock):
        calls, gate = [], threading.Event()

        def check():
            calls.append(1)
            gate.wait(30.0)

        health.add_check("db", check, timeout=2.0, ttl=1.0, failures=1)
        before = clock.monotonic()
        assert health.readiness().failing == ("db: no answer within 2 s",)
        assert clock.monotonic() == before + 2.0
        clock.advance(3.0)
        assert health.readiness().failing == ("db: still no answer after 5.0 s",)
        clock.advance(0.5)
        assert health.last_readiness().failing == ("db: still no answer after 5.0 s",)
        assert len(calls) == 1
        gate.set()
        self.until(lambda: health._checks["db"].flight is None)
        clock.advance(1.0)
        # The late answer counted for nothing; a new run decides.
        assert health.readiness()
        assert len(calls) == 2

    @staticmethod
    def until(condition):
        for _ in range(2000):
            if condition():
                return
            threading.Event().wait(0.005)
        raise AssertionError("waited 10 s")

    def test_a_check_has_its_time_limit_as_context(self, health):
        seen = []
        health.add_check("db", lambda: seen.append(context.current().remaining()), timeout=2.0)
        health.readiness()
        assert 0.0 < seen[0] <= 2.0

    def test_an_uncritical_check_degrades(self, health):
        health.add_check("cache", lambda: False, critical=False)
        verdict = health.readiness()
        assert verdict.status is Status.DEGRADED
        assert verdict

    def test_the_decorator_returns_the_function(self, health):
        @health.check("db")
        def db():
            return True

        assert db() is True
        assert health.readiness().checks[0].name == "db"

    def test_startup_passes_once_for_good(self, health, clock):
        answers = iter([False, True])
        health.add_check("warm", lambda: next(answers), on=["startup"], ttl=0.0)
        assert not health.startup()
        assert health.startup()
        assert health.startup()  # would raise StopIteration
        assert health.readiness()  # not asked there

    def test_hold(self, health):
        release = health.hold("migration", "tables are locked")
        assert health.readiness().failing == ("migration: tables are locked",)
        release()
        release()
        assert health.readiness()

    @pytest.mark.parametrize(
        ("options", "parameter"),
        [
            ({"timeout": 0}, "timeout"),
            ({"ttl": -1}, "ttl"),
            ({"failures": 0}, "failures"),
            ({"successes": 1.5}, "successes"),
            ({"on": ["liveness"]}, "on"),
            ({"on": []}, "on"),
        ],
    )
    def test_bad_options_are_named(self, health, options, parameter):
        with pytest.raises(InvalidArgument) as caught:
            health.add_check("db", lambda: None, **options)
        assert caught.value.parameter == parameter

    def test_bad_names_and_calls(self, health):
        health.add_check("db", lambda: None)
        for name, call in (("db", lambda: None), ("", lambda: None), ("x", 5)):
            with pytest.raises(InvalidArgument):
                health.add_check(name, call)
        with pytest.raises(InvalidArgument):
            health.heartbeat("x", max_age=0)


class TestAsync:
    def test_async_checks_from_async_and_sync_questions(self):
        health = Health()

        async def good():
            await asyncio.sleep(0)
            return "fine"

        async def bad():
            raise OSError("gone")

        health.add_check("good", good)
        health.add_check("bad", bad, critical=False)

        async def main():
            verdict = await health.readiness_async()
            assert verdict.status is Status.DEGRADED
            assert verdict.failing == ("bad: OSError: gone",)
            return True

        assert asyncio.run(main())
        fresh = Health()
        fresh.add_check("good", good, timeout=10.0)
        assert fresh.readiness()  # no loop is known: one of our own

    def test_async_checks_run_on_the_watched_loop(self):
        health = Health()
        loops = []

        async def check():
            loops.append(asyncio.get_running_loop())

        health.add_check("db", check, timeout=10.0)

        async def main():
            end = health.watch_loop()
            assert await asyncio.to_thread(health.readiness)
            assert loops == [asyncio.get_running_loop()]
            end()

        asyncio.run(main())

    def test_a_slow_async_check_is_cancelled_at_its_timeout(self):
        clock = ManualClock()
        health = Health(clock=clock)
        ends = []

        async def check():
            try:
                await asyncio.sleep(100.0)
            finally:
                ends.append(clock.monotonic())

        health.add_check("db", check, timeout=2.0)
        begin = clock.monotonic()

        async def main():
            health.watch_loop()
            verdict = await health.readiness_async()
            await asyncio.sleep(1.0)
            return verdict

        verdict = clock.run(main())
        assert not verdict
        assert ends
        assert ends[0] - begin == pytest.approx(2.0, abs=0.1)

    def test_startup_async(self, health):
        assert asyncio.run(health.startup_async())
        assert asyncio.run(health.startup_async())


class TestLiveness:
    def test_a_thread_that_stops_beating(self, health, clock):
        beat = health.heartbeat("worker", max_age=2.0)
        clock.advance(2.0)
        assert health.liveness()
        clock.advance(1.0)
        assert health.liveness().failing == ("worker: no sign of life for 3.00 s (limit 2 s)",)
        beat.beat()
        assert health.liveness()
        clock.advance(3.0)
        beat.close()
        assert health.liveness()

    def test_liveness_never_calls_a_check(self, health):
        health.add_check("db", lambda: pytest.fail("called"))
        assert health.liveness()

    def test_a_blocked_loop_is_seen_from_another_thread(self):
        clock = ManualClock(autojump=None)
        health = Health(clock=clock)

        async def main():
            health.watch_loop(blocked_after=2.0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert await asyncio.to_thread(health.liveness)
            seen = []

            def look():
                clock.advance(3.0)
                seen.append(health.liveness())

            other = threading.Thread(target=look)
            other.start()
            other.join()  # the loop is blocked here
            return seen[0]

        verdict = asyncio.run(main())
        assert verdict.failing == ("event loop: no sign of life for 3.00 s (limit 2 s)",)
        # The loop is closed: nobody can be blocked on it any more.
        assert health.liveness()

    def test_watching_again_changes_the_limit_and_ending_ends(self, clock):
        health = Health(clock=clock)

        async def main():
            first = health.watch_loop(blocked_after=2.0)
            health.watch_loop(blocked_after=50.0)
            assert len(health._loops) == 1
            first()
            assert health._loops == {}

        asyncio.run(main())
        with pytest.raises(InvalidArgument):
            health.watch_loop(blocked_after=-1)

    def test_the_heart_of_a_loop_beats(self):
        clock = ManualClock()
        health = Health(clock=clock)

        async def main():
            health.watch_loop(blocked_after=2.0)
            (watch,) = health._loops.values()
            await asyncio.sleep(0.01)
            first = watch.pulse.last
            await asyncio.sleep(10.0)
            return watch.pulse.last - first

        assert clock.run(main()) > 9.0


class TestDefaults:
    def test_checks_that_say_nothing_use_those_of_the_constructor(self, clock):
        health = Health(clock=clock, check_timeout=0.25, cache_ttl=7.0, failures=3, successes=2)
        calls = []
        health.add_check("db", lambda: calls.append(1) or not calls[1:])  # good once
        assert health.readiness()
        clock.advance(6.9)
        health.readiness()
        assert len(calls) == 1
        for verdict in (True, True, False):
            clock.advance(7.1)
            assert bool(health.readiness()) is verdict
        (entry,) = health._checks.values()
        assert (entry.timeout, entry.state.successes) == (0.25, 2)
        health.add_check("own", bool, timeout=9, ttl=0, failures=1, successes=1)
        own = health._checks["own"]
        assert (own.timeout, own.state.ttl, own.state.failures) == (9.0, 0.0, 1)

    def test_the_limit_of_loops(self, clock):
        health = Health(clock=clock, loop_blocked_after=9.0)

        async def main():
            health.watch_loop()
            (watch,) = health._loops.values()
            assert watch.pulse.max_age == 9.0
            health.watch_loop(blocked_after=2.0)
            health.watch_loop()  # as a middleware does
            assert watch.pulse.max_age == 2.0

        asyncio.run(main())

    @pytest.mark.parametrize(
        "option",
        [
            {"check_timeout": 0},
            {"cache_ttl": -1},
            {"failures": 0},
            {"successes": 1.5},
            {"loop_blocked_after": float("nan")},
            {"name": ""},
        ],
    )
    def test_bad_options(self, option):
        with pytest.raises(InvalidArgument, match=next(iter(option))):
            Health(**option)


class TestLifecycle:
    def test_readiness_follows_the_phase_and_asks_nobody_while_draining(self):
        calls = []
        life = Lifecycle("orders", lame_duck=0.0)
        health = Health(lifecycle=life)
        health.add_check("db", lambda: calls.append(1), ttl=0.0)
        assert health.readiness().failing[0] == "lifecycle: new"
        assert health.startup().failing == ("lifecycle: new",)
        assert calls == []
        with life:
            assert health.readiness()
            assert health.startup()
            assert calls == [1]
            life._asked = True  # what a signal handler does before anything else
            assert health.readiness().failing[0] == "lifecycle: shutdown requested"
        assert health.readiness().failing[0] == "lifecycle: stopped"
        assert health.liveness()
        assert calls == [1]


class TestEvents:
    def test_changes_are_published_outside_of_the_lock(self, health, clock):
        seen = []

        def subscriber(event):
            seen.append((event.check, event.status, event.detail))
            health.last_readiness()  # must not deadlock

        end = events.subscribe(subscriber, HealthChanged)
        try:
            answers = iter([True, False, True, True])
            health.add_check("db", lambda: next(answers), ttl=0.0, failures=1)
            health.add_check("cache", lambda: False, critical=False, ttl=100.0)
            for _ in range(4):
                health.readiness()
        finally:
            end()
        assert ("cache", Status.DEGRADED, "returned False") in seen
        assert [each[1] for each in seen if each[0] == "db"] == [
            Status.PASS,
            Status.FAIL,
            Status.PASS,
        ]

    def test_events_are_counted_with_bounded_labels(self, clock):
        counter = EventCounter(max_series=2)
        try:
            health = Health("orders", clock=clock)
            for name in ("a", "b", "c", "d"):
                health.add_check(name, lambda: None)
            health.readiness()
            (family,) = [f for f in counter.families() if f.name == "hastack_health_changed"]
        finally:
            counter.close()
        assert family.kind == "counter"
        labels = [dict(each) for each, _ in family.samples]
        assert sum(value for _, value in family.samples) == 4
        assert len(labels) == 3
        assert {"overflow": "true"} in labels
        assert all(each.get("status", "pass") == "pass" for each in labels)
        assert not any("detail" in each for each in labels)

    @pytest.mark.parametrize("close", [True, False])
    def test_a_counter_that_is_closed_or_dropped_ends_its_subscription(self, close):
        before = set(events._subscriptions)
        counter = EventCounter()
        assert len(set(events._subscriptions) - before) == 1
        if close:
            counter.close()
            counter.close()
            assert set(events._subscriptions) == before
        del counter
        gc.collect()
        assert set(events._subscriptions) == before

    def test_an_event_inside_the_counting_of_another_does_not_hang(self):
        counter = EventCounter()
        event = HealthChanged(name="orders", check="db", status=Status.PASS, detail="")
        with contextlib.closing(counter), counter._counts._lock:  # as in a signal handler
            events.topic(HealthChanged).publish(event)
        assert [f.name for f in counter.families()] == ["hastack_health_changed"]


class TestEndpoints:
    def test_unknown_questions_are_refused(self, health):
        for paths in ({"ready": "ready"}, {"/x": "nonsense"}):
            with pytest.raises(InvalidArgument) as caught:
                Endpoints(health, paths=paths)
            assert caught.value.parameter == "paths"

    def test_metrics(self, health):
        health.add_check("db", lambda: None)
        endpoints = Endpoints(health)
        try:
            health.readiness()
            reply = endpoints.answer("metrics", "GET", "", "")
        finally:
            endpoints.close()
        text = reply.body.decode()
        assert reply.content_type.startswith("application/openmetrics-text; version=1.0.0")
        assert text.endswith("# EOF\n")
        assert 'hastack_health{verdict="live"} 1\n' in text
        assert 'hastack_health_check{check="db"} 1\n' in text
        assert 'hastack_health_changed_total{name="orders",check="db",status="pass"} 1' in text

    def test_metrics_can_be_left_out(self, health):
        endpoints = Endpoints(health, metrics=False)
        assert endpoints.question("/metrics") is None
        endpoints.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_forgets_the_runs_of_its_parent():
    health = Health()
    gate = threading.Event()
    calls = []

    def check():
        calls.append(os.getpid())
        if len(calls) == 1:
            gate.wait(30.0)

    health.add_check("db", check, timeout=0.05, ttl=0.0, failures=1)
    assert not health.readiness()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        health._checks["db"].timeout = 10.0
        os._exit(0 if health.readiness() else 1)
    gate.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
