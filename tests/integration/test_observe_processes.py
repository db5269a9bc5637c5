"""Forks, exits, waiting callers, recursion: the pipeline inside real processes and threads."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from observe_items import DOWN, Memory, emit, exporter_to, numbers
from opentelemetry.sdk.trace import TracerProvider
from otlp_servers import HttpServer

from hastack import config, context, events, observe
from hastack.observe import BackendConfig, QueueConfig, _threads
from hastack.observe._backends import exporter_of
from hastack.observe._threads import suppressed
from hastack.observe.records import LogHandler, LogRecordProcessor
from hastack.observe.traces import SpanProcessor
from hastack.ratelimit import CircuitBreaker

pytestmark = pytest.mark.usefixtures("short_pauses")

QUICK = QueueConfig(linger=0.01)


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)


# -- waiting -----------------------------------------------------------------------------------


def full(policy="block", **options):
    """An exporter whose backend is down and whose queue is full."""
    transport = Memory()
    transport.always = DOWN
    queue = QueueConfig(when_full=policy, max_units=10, batch=5, linger=0.01, **options)
    exporter = exporter_to(transport, queue=queue)
    emit(exporter, numbers(10))
    return transport, exporter


def test_a_caller_waits_for_room():
    transport, exporter = full(max_block=30.0)
    done = []

    def late():
        done.append(exporter.emit(0, "late", 100))

    threads = [threading.Thread(target=late) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(exporter._waiting) >= 5)
    assert not done
    transport.always = None
    for thread in threads:
        thread.join(20)
    assert done == [True] * 5
    assert exporter.force_flush(20.0)
    assert transport.lines() == [*numbers(10), *["late"] * 5]
    exporter.shutdown(1.0)


def test_a_caller_waits_no_longer_than_its_context_and_only_once():
    _, exporter = full(max_block=30.0)
    with context.timeout(0.2):
        assert not exporter.emit(0, "late", 100)
    began = time.monotonic()
    for _ in range(100):  # nobody waits again until there has been room
        assert not exporter.emit(0, "later", 100)
    assert time.monotonic() - began < 10.0
    assert exporter.account().dropped == {"queue_full": 101}
    exporter.shutdown(0.0)


def test_an_event_loop_is_never_held_up():
    import asyncio

    _, exporter = full(max_block=30.0)

    async def main():
        return exporter.emit(0, "late", 100)

    assert not asyncio.run(main())
    assert exporter.account().dropped == {"queue_full": 1}
    exporter.shutdown(0.0)


def test_items_that_found_no_room_yet_are_sent_at_the_end():
    """Handed in without a lock, they turn out to be larger than the queue."""
    from hastack.observe.pipeline import HttpAnswer

    transport = Memory()
    go_on = threading.Event()

    def slow():
        go_on.wait(30)
        return HttpAnswer(200, {})

    transport.script.extend([slow] * 3)
    queue = QueueConfig(max_bytes=32 * 2**20, batch=50, linger=0.01, max_block=30.0)
    exporter = exporter_to(transport, queue=queue, measure=lambda item: (None, 100_000))
    for line in numbers(700):
        assert exporter.hand_in(line)
    assert exporter.account().emitted == 700
    assert exporter.account().balanced
    waiting = threading.Thread(target=lambda: reports.append(exporter.shutdown(30.0)))
    reports = []
    waiting.start()
    wait_for(lambda: exporter._flow.closing)
    assert not exporter.hand_in("too late")
    go_on.set()
    waiting.join(40)
    assert not reports[0]
    assert transport.lines() == numbers(700)
    assert reports[0].account.dropped == {"shutdown": 1}


def test_an_item_that_is_none_is_counted():
    transport = Memory()
    exporter = exporter_to(transport, queue=QueueConfig(linger=0.01))
    exporter.hand_in("no log record")
    exporter.emit(0, "fine", 100)
    exporter.force_flush(20.0)
    assert exporter.account().dropped == {"unencodable": 1}
    small = exporter_to(transport, queue=QueueConfig(max_units=10))
    assert not small.hand_in("no log record")
    assert transport.lines() == ["fine"]
    exporter.shutdown(1.0)


def test_a_thread_that_fails_begins_anew(monkeypatch):
    from hastack.observe import _threads

    monkeypatch.setattr(_threads, "_ANEW", 0.01)
    transport = Memory()
    exporter = exporter_to(transport, queue=QueueConfig(linger=0.01))
    settle, look = exporter._settle, exporter._look_around
    failures = []

    def once(name, call):
        def run(*arguments):
            if name not in failures:
                failures.append(name)
                raise MemoryError(name)
            return call(*arguments)

        return run

    monkeypatch.setattr(exporter, "_settle", once("settle", settle))
    monkeypatch.setattr(exporter, "_look_around", once("look", look))
    emit(exporter, numbers(3))
    assert exporter.force_flush(20.0)
    assert sorted(failures) == ["look", "settle"]
    assert transport.lines()[-3:] == numbers(3)
    assert exporter.account().balanced
    exporter.shutdown(1.0)


def test_the_end_lets_waiting_callers_go():
    _, exporter = full(max_block=30.0)
    done = []
    thread = threading.Thread(target=lambda: done.append(exporter.emit(0, "late", 100)))
    thread.start()
    wait_for(lambda: exporter._waiting)
    report = exporter.shutdown(0.3)
    thread.join(20)
    assert done == [False]
    assert report.account.balanced
    assert exporter.account().lost == 11


def test_drop_newest_and_drop_oldest():
    transport, exporter = full("drop-newest")
    emit(exporter, ["new"])
    assert exporter.account().dropped == {"queue_full": 1}
    transport.always = None
    assert exporter.force_flush(20.0)
    assert transport.lines() == numbers(10)
    exporter.shutdown(1.0)
    transport, exporter = full("drop-oldest")
    emit(exporter, numbers(100, start=10))
    transport.always = None
    assert exporter.force_flush(20.0)
    lines = transport.lines()
    assert lines[-5:] == numbers(5, start=105)
    assert lines == sorted(lines)
    assert exporter.account().sent == len(lines) == 110 - exporter.account().lost
    exporter.shutdown(1.0)


def test_many_threads_lose_nothing_and_keep_their_order():
    transport = Memory()
    exporter = exporter_to(transport, queue=QUICK)

    def work(name):
        for n in range(2000):
            exporter.emit(0, f"{name} {n:05d}", 100)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    seen = []
    while any(thread.is_alive() for thread in threads):
        account = exporter.account()
        assert account.balanced
        seen.append(account)
    for thread in threads:
        thread.join()
    assert exporter.force_flush(30.0)
    lines = transport.lines()
    for name in "abcd":
        assert [x for x in lines if x[0] == name] == [f"{name} {n:05d}" for n in range(2000)]
    exporter.shutdown(1.0)


# -- reentrance --------------------------------------------------------------------------------


def test_finalizers_and_signal_handlers_may_emit():
    """Both run inside of whatever the thread is doing, with its lock held or not."""
    transport = Memory()
    exporter = exporter_to(transport, queue=QUICK)
    made = []  # appending is one step: a handler cannot come in between

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            made.append(1)
            exporter.emit(0, "finalizer", 100)

    def handler(number, frame):
        made.append(1)
        exporter.emit(0, "signal", 100)

    before, threshold = signal.signal(signal.SIGALRM, handler), gc.get_threshold()
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    gc.set_threshold(5)
    try:
        for n in range(5000):
            Cycle()
            exporter.emit(0, f"line {n}", 100)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.set_threshold(*threshold)
    gc.collect()
    assert exporter.force_flush(30.0)

    def all_there():
        exporter.force_flush(1.0)
        account = exporter.account()
        # A collection may run on one of the exporter's own threads, whose items are left out.
        return (
            account.balanced
            and account.emitted + account.suppressed == 5000 + len(made)
            and len(transport.lines()) == account.sent == account.emitted
        )

    wait_for(all_there)
    assert [x for x in transport.lines() if x[0] == "l"] == [f"line {n}" for n in range(5000)]
    exporter.shutdown(1.0)


def test_what_the_exporter_s_own_threads_emit_is_left_out():
    """The transport logs, as urllib3 does, through a handler that this exporter feeds."""
    from opentelemetry.sdk._logs import LoggerProvider

    transport = Memory()
    exporter = exporter_to(transport, queue=QUICK)
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(LogRecordProcessor(exporter))
    logger = logging.getLogger("hastack-test-recursion")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    handler = LogHandler(provider)
    logger.addHandler(handler)
    inside = []

    def chatty():
        inside.append(suppressed())
        logger.warning("sending")
        exporter.emit(0, "directly", 100)
        from hastack.observe._answers import HttpAnswer

        return HttpAnswer(200, {})

    transport.script.extend([chatty] * 50)
    try:
        logger.warning("from the application")
        assert exporter.force_flush(20.0)
        time.sleep(0.1)
        assert exporter.force_flush(20.0)
    finally:
        logger.removeHandler(handler)
    assert inside == [True]
    account = exporter.account()
    assert (account.emitted, account.sent, account.suppressed) == (1, 1, 1)
    assert not suppressed()
    exporter.shutdown(1.0)


def test_a_log_line_inside_of_logging_is_left_out():
    class Provider:
        def get_logger(self, name):
            return self

        def emit(self, record):
            lines.append(record.body)
            logging.getLogger("hastack-test-inner").error("about it")

    lines = []
    logger = logging.getLogger("hastack-test-inner")
    logger.propagate = False
    handler = LogHandler(Provider(), "INFO")
    logger.addHandler(handler)
    try:
        logger.error("outer %d", 1)
        logger.debug("too low")
    finally:
        logger.removeHandler(handler)
    assert lines == ["outer 1"]


# -- breaker and clock -------------------------------------------------------------------------


def test_an_open_breaker_makes_no_requests_and_loses_nothing():
    transport = Memory()
    calls = []

    def down():
        calls.append(1)
        return DOWN

    transport.always = down
    breaker = CircuitBreaker(window_calls=2, min_calls=2, open_for=0.5, jitter=0.0, name="backend")
    exporter = exporter_to(transport, queue=QUICK, breaker=breaker)
    emit(exporter, numbers(3))
    wait_for(lambda: breaker.state.value == "open")
    seen = len(calls)
    emit(exporter, numbers(3, start=3))
    assert not exporter.force_flush(0.2)
    assert len(calls) == seen
    assert exporter.account().requests == seen
    transport.always = None
    assert exporter.force_flush(30.0)
    assert transport.lines() == numbers(6)
    exporter.shutdown(1.0)


def test_the_wall_clock_does_not_matter(monkeypatch):
    """Stepping it back or forth, with a Retry-After as a date in between."""
    from hastack.observe._answers import HttpAnswer

    transport = Memory()
    headers = {
        "retry-after": "Fri, 07 Nov 2014 23:59:30 GMT",
        "date": "Fri, 07 Nov 2014 23:59:29 GMT",
    }
    transport.script.append(HttpAnswer(503, headers))
    exporter = exporter_to(transport, queue=QUICK)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 1e8)
    emit(exporter, numbers(3))
    monkeypatch.setattr(time, "time", lambda: real() + 1e8)
    assert exporter.force_flush(20.0)
    assert transport.lines() == numbers(3)
    exporter.shutdown(1.0)


# -- fork --------------------------------------------------------------------------------------


def in_child(work):
    """Run in a forked child; what it returned, or why it failed."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(30)
            os.write(write, repr(work()).encode())
            code = 0
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        out = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    assert status == 0, out
    return out


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_an_account_of_its_own():
    transport, exporter = full(max_block=0.0)
    before = exporter.account()

    def child():
        empty = exporter.account()
        transport.always = None
        emit(exporter, ["child"])
        flushed = bool(exporter.force_flush(20.0))
        return empty.emitted, flushed, transport.lines(), bool(exporter.shutdown(5.0))

    assert in_child(child) == "(0, True, ['child'], True)"
    assert exporter.account().emitted == before.emitted == 10
    transport.always = None
    assert exporter.force_flush(20.0)
    assert transport.lines() == numbers(10)  # the parent's, once
    exporter.shutdown(1.0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forks_while_threads_emit():
    transport = Memory()
    exporter = exporter_to(transport, queue=QUICK)
    stop = threading.Event()

    def work():
        n = 0
        while not stop.is_set():
            exporter.emit(0, f"x {n}", 100)
            n += 1
            if n % 100 == 0:
                time.sleep(0.001)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):

            def child():
                emit(exporter, ["child"])
                return bool(exporter.force_flush(20.0)), transport.lines()

            assert in_child(child) == "(True, ['child'])"
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert exporter.force_flush(30.0)
    exporter.shutdown(1.0)


def _worker(installed, name):
    tracer = installed.tracer_provider.get_tracer("worker")
    for n in range(20):
        tracer.start_span(f"{name}-{n:02d}").end()
    # No flush: the process ends as multiprocessing's do.


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_multiprocessing_children_deliver_at_their_end():
    with HttpServer() as server:
        installed = install_to(server.url, signals=["traces"])
        _worker(installed, "parent")
        processes = [
            multiprocessing.get_context("fork").Process(target=_worker, args=(installed, f"p{n}"))
            for n in range(2)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(30)
            assert process.exitcode == 0
        assert installed.shutdown(20.0)
        names = [name for _, name in server.spans()]
        for who in ("parent", "p0", "p1"):
            assert [x for x in names if x.startswith(who)] == [f"{who}-{n:02d}" for n in range(20)]


def install_to(url, *, signals=("traces", "metrics", "logs"), kind="otlp-http", **observed):
    settings = config.load(
        env=None,
        override={
            "observe": {
                "service": "shop",
                "backends": {"main": {"kind": kind, "endpoint": url, "signals": list(signals)}},
                "queue": {"linger": "10ms"},
                **observed,
            }
        },
    )
    return observe.install(settings, set_global=False)


PRELOADED = """
import os, signal, sys, time
sys.path[:0] = {path!r}
from hastack import config, observe
settings = config.load(env=None, override={{"observe": {{
    "service": "shop", "metrics_every": "200ms",
    "backends": {{"main": {{"kind": "{kind}", "endpoint": "{url}"}}}}}}}})
installed = observe.install(settings)
from opentelemetry import metrics, trace
counter = metrics.get_meter("app").create_counter("app.requests")
tracer = trace.get_tracer("app")
tracer.start_span("master").end()        # threads run before the fork
counter.add(1)
pids = []
for worker in range(3):
    pid = os.fork()
    if pid == 0:
        for n in range(50):
            tracer.start_span(f"w{{worker}}-{{n:02d}}").end()
            counter.add(1)
        sys.exit(0)                      # as a gunicorn worker does
    pids.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
print(codes, flush=True)
"""


def python(script, **options):
    path = [p for p in sys.path if p]
    code = script.format(path=path, **options)
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_workers_forked_from_a_preloaded_application():
    """gunicorn --preload: everything is installed, and running, before the fork."""
    with HttpServer() as server:
        done = python(PRELOADED, url=server.url, kind="otlp-http")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "[0, 0, 0]", done.stderr
        names = [name for _, name in server.spans()]
        assert names.count("master") == 1
        for worker in range(3):
            mine = [x for x in names if x.startswith(f"w{worker}-")]
            assert mine == [f"w{worker}-{n:02d}" for n in range(50)]
        assert "app.requests" in server.metrics()


# -- the end of the interpreter ----------------------------------------------------------------

AT_EXIT = """
import sys
sys.path[:0] = {path!r}
from hastack import config, observe
settings = config.load(env=None, override={{"observe": {{
    "service": "shop", "backends": {{"main": {{"endpoint": "{url}"}}}}}}}})
observe.install(settings)
import logging
from opentelemetry import metrics, trace
trace.get_tracer("app").start_span("last").end()
metrics.get_meter("app").create_counter("app.last").add(3)
logging.getLogger("app").error("last words")
"""


def test_what_is_left_at_exit_is_delivered():
    with HttpServer() as server:
        done = python(AT_EXIT, url=server.url)
        assert done.returncode == 0, done.stderr
        assert server.spans() == [("shop", "last")]
        assert ("shop", "last words") in server.records()
        assert server.metrics()["app.last"].sum.data_points[0].as_int == 3


@pytest.mark.parametrize("none_for", ["pack", "send", ""])
def test_whoever_waits_does_what_finds_no_thread(monkeypatch, none_for):
    # As on Python 3.12, where none begins once the interpreter ends; or where there are too many.
    started = _threads.start

    def start(name, work):
        if none_for in name:
            raise RuntimeError("can't start new thread")
        return started(name, work)

    monkeypatch.setattr(_threads, "start", start)
    with HttpServer() as server:
        exporter = exporter_of("main", BackendConfig(endpoint=server.url), "traces")
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SpanProcessor(exporter))
        names = numbers(1000)
        for name in names[:500]:
            provider.get_tracer("test").start_span(name).end()
        assert exporter.force_flush(20.0)
        for name in names[500:]:
            provider.get_tracer("test").start_span(name).end()
        assert exporter.shutdown(20.0)
        assert sorted(name for _, name in server.spans()) == names


EXISTING = """
import sys
sys.path[:0] = {path!r}
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
resource = Resource({{"service.name": "older"}})
trace.set_tracer_provider(TracerProvider(resource=resource))
metrics.set_meter_provider(MeterProvider(resource=resource))
_logs.set_logger_provider(LoggerProvider(resource=resource))
from hastack import config, observe
settings = config.load(env=None, override={{"observe": {{
    "service": "shop", "backends": {{"main": {{"endpoint": "{url}"}}}}}}}})
with observe.install(settings):
    trace.get_tracer("app").start_span("one").end()
    metrics.get_meter("app").create_counter("app.one").add(1)
    _logs.get_logger("app").emit(body="one")
"""


def test_providers_that_are_there_are_used():
    with HttpServer() as server:
        done = python(EXISTING, url=server.url)
        assert done.returncode == 0, done.stderr
        assert "verrid" not in done.stderr  # OpenTelemetry lets nobody override a provider
        assert server.spans() == [("older", "one")]
        assert ("older", "one") in server.records()
        assert "app.one" in server.metrics()


SOON = "from hastack.observe import _threads\n_threads.EXIT_TIMEOUT = 1.0"


def test_exit_does_not_wait_for_a_black_hole():
    with HttpServer() as server:
        server.always = "black hole"
        began = time.monotonic()
        done = python(AT_EXIT + SOON, url=server.url)
        assert done.returncode == 0, done.stderr
        assert time.monotonic() - began < 30.0
        assert "Traceback" not in done.stderr


# -- install -----------------------------------------------------------------------------------


def test_one_call_wires_everything():
    with HttpServer() as server:
        installed = install_to(server.url, resource={"deployment.environment.name": "test"})
        with installed.tracer_provider.get_tracer("app").start_as_current_span("work"):
            installed.metrics.meter("app").counter("app.bound").add(2)
        installed.meter_provider.get_meter("app").create_counter("app.counted").add(5)
        breaker = CircuitBreaker(window_calls=2, min_calls=2, name="db")
        for _ in range(2):
            breaker.try_acquire().failure()
        assert installed.force_flush(20.0)
        assert ("shop", "work") in server.spans()
        metrics = server.metrics()
        assert metrics["app.counted"].sum.data_points[0].as_int == 5
        assert metrics["app.bound"].sum.data_points[0].as_double == 2 or (
            metrics["app.bound"].sum.data_points[0].as_int == 2
        )
        (opened,) = [
            point
            for point in metrics["hastack.events"].sum.data_points
            if {a.key: a.value.string_value for a in point.attributes}.get("new") == "open"
        ]
        assert {a.key: a.value.string_value for a in opened.attributes} == {
            "event": "hastack.breaker_changed",
            "name": "db",
            "old": "closed",
            "new": "open",
            "reason": "failure rate reached",
        }
        assert ("shop", "hastack.breaker_changed") in server.records()
        states = {
            (a["exporter"], a["state"])
            for point in metrics["hastack.observe.units"].sum.data_points
            for a in [{x.key: x.value.string_value for x in point.attributes}]
        }
        assert {("main-traces", "emitted"), ("main-traces", "recovered")} <= states
        installed.force_flush(20.0)  # what the first requests took is collected after them
        (took,) = [
            point
            for point in server.metrics()["hastack.observe.request.duration"].histogram.data_points
            if point.attributes[0].value.string_value == "main-traces"
        ]
        assert took.count >= 1
        assert {a.key: a.value.string_value for a in took.attributes}["outcome"] == "delivered"
        assert "hastack.observe.effort" in server.metrics()
        report = installed.shutdown(10.0)
        assert report, report
        assert set(report.accounts) == {"main-traces", "main-metrics", "main-logs"}
        assert all(account.balanced for account in report.accounts.values())
        assert not [
            s for s in events._subscriptions.values() if "EventBridge" in repr(s.subscriber)
        ]


def test_a_component_that_took_long_is_a_span():
    from hastack._lifecycle._events import COMPONENT_STARTED, ComponentStarted

    with HttpServer() as server:
        with install_to(server.url, signals=["traces", "logs"]) as installed:
            COMPONENT_STARTED.publish(ComponentStarted(name="shop", component="db", took=1.5))
            assert installed.force_flush(20.0)
        (message,) = [m for s, m in server.messages if s == "traces"]
        (span,) = message.resource_spans[0].scope_spans[0].spans
        assert span.name == "hastack.component_started"
        assert span.end_time_unix_nano - span.start_time_unix_nano == 1_500_000_000


def test_periodic_collection_and_the_last_one():
    with HttpServer() as server:
        installed = install_to(server.url, signals=["metrics"], metrics_every="50ms")
        counter = installed.meter_provider.get_meter("app").create_counter("app.counted")
        counter.add(1)
        wait_for(lambda: "app.counted" in server.metrics())
        counter.add(1)
        assert installed.shutdown(10.0)
        assert server.metrics()["app.counted"].sum.data_points[0].as_int == 2


def test_settings_that_contradict_each_other():
    from hastack.errors import InvalidArgument
    from hastack.observe import BackendConfig, Exporter
    from hastack.observe._backends import exporters_of

    with pytest.raises(InvalidArgument, match="endpoint"):
        exporters_of("x", BackendConfig(endpoint="ftp://somewhere"))
    with pytest.raises(InvalidArgument, match="compression"):
        exporters_of("x", BackendConfig(endpoint="http://a", compression="lzma"))
    with pytest.raises(InvalidArgument, match="name"):
        exporter_to(Memory(), name="a/b")
    with pytest.raises(InvalidArgument, match="exporters"):
        observe.Pipeline([exporter_to(Memory()), exporter_to(Memory())])
    with pytest.raises(InvalidArgument, match="timeout"):
        exporter_to(Memory()).force_flush(-1.0)
    with pytest.raises(InvalidArgument, match="config"):
        observe.install(3)
    assert Exporter is observe.Exporter
