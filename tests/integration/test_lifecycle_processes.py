"""Whole processes that are told to end: signals, lame duck, budgets, forks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"

PRELUDE = """
import asyncio, logging, os, signal, sys, threading, time
logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
from hastack.lifecycle import Lifecycle
def say(*words): print(*words, flush=True)
"""


class Child:
    """A Python program of its own, ended whatever happens."""

    def __init__(self, code, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(SRC), "PYTHONWARNINGS": "error"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def line(self):
        return self.process.stdout.readline().strip()

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def end(self, timeout=40.0):
        """Exit status, what else it printed, and its log."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20.0) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def until(condition, timeout=30.0):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout} s")


WEB = """
    from hastack.contrib.asgi import HealthMiddleware
    from hastack.contrib.uvicorn import serve
    from hastack.health import Health
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    say("lifespan over")
                    return
        if scope["path"] == "/slow":
            await asyncio.sleep(3.5)
        if scope["path"] == "/stuck":
            await asyncio.sleep(60)
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
    life = Lifecycle("web", lame_duck=float(sys.argv[2]), drain=float(sys.argv[3]), stop=1.0)
    life.add("db", start=lambda: say("db up"), stop=lambda: say("db down"))
    health = Health(lifecycle=life)
    report = serve(HealthMiddleware(app, health=health), lifecycle=life, health=health,
                   port=int(sys.argv[1]), log_level="warning")
    say("report", report)
"""


class TestUvicorn:
    def setup_method(self):
        pytest.importorskip("uvicorn")

    def test_nothing_fails_between_sigterm_and_the_end_of_the_lame_duck(self):
        port = free_port()
        with Child(WEB, port, 2.0, 20.0) as child:
            assert child.line() == "db up"
            until(lambda: get(port, "/readyz")[0] == 200)
            slow = []
            thread = threading.Thread(target=lambda: slow.append(get(port, "/slow")))
            thread.start()
            time.sleep(0.2)
            child.signal()
            begin = time.monotonic()
            until(lambda: get(port, "/readyz")[0] == 503)
            until(lambda: "lifecycle: lame_duck" in get(port, "/readyz")[1])
            served = 0
            while time.monotonic() - begin < 0.8:
                assert get(port, "/") == (200, "ok")  # new connections all the way through
                served += 1
            assert served > 2
            assert get(port, "/healthz")[0] == 200
            status, out, err = child.end()
            thread.join()
            assert slow == [(200, "ok")]  # still in flight when the lame duck was over
            assert status == 0, err
            assert out.index("lifespan over") < out.index("db down") < out.index("report stopped")

    def test_a_request_that_never_ends_is_cut_off_within_the_budget(self):
        port = free_port()
        with Child(WEB, port, 0.0, 0.5) as child:
            until(lambda: get(port, "/readyz")[0] == 200)
            outcome = []

            def ask():
                try:
                    outcome.append(get(port, "/stuck"))
                except OSError as error:
                    outcome.append(error)

            thread = threading.Thread(target=ask)
            thread.start()
            time.sleep(0.2)
            child.signal()
            begin = time.monotonic()
            _, out, err = child.end()
            assert time.monotonic() - begin < 30.0
            thread.join()
            assert outcome
            assert "db down" in out, err

    def test_a_port_that_is_taken_unwinds(self):
        with (
            socket.create_server(("127.0.0.1", 0)) as taken,
            Child(WEB, taken.getsockname()[1], 0.0, 1.0) as child,
        ):
            status, out, err = child.end()
            assert status == 1
            assert out.splitlines() == ["db up", "lifespan over", "db down"]
            assert "StartFailed: http of web did not start" in err


class TestSignals:
    @pytest.mark.parametrize("run", ["life.run()", "asyncio.run(life.run_async())"])
    def test_a_signal_that_does_not_wake_the_main_thread_is_not_lost(self, run):
        # Taken by another thread it leaves the main thread asleep, like one that comes just
        # before the sleep.
        code = f"""
            import asyncio, signal, threading, time
            life = Lifecycle("sleeper", lame_duck=0.0)

            def kill():
                time.sleep(0.3)
                signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
                threading.Event().wait(30.0)

            def served(phase):
                say(phase.value)
                if phase.value == "serving":
                    threading.Thread(target=kill, daemon=True).start()

            life.on_phase(served)
            {run}
        """
        with Child(code) as child:
            status, out, err = child.end()
            assert status == 0, err
            assert out.split()[-1] == "stopped"

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_second_signal_aborts_at_once(self, number):
        code = """
            life = Lifecycle("slow", lame_duck=60.0)
            life.add("db", start=lambda: None, stop=lambda: say("never"))
            life.on_phase(lambda phase: say(phase.value))
            life.run()
        """
        with Child(code) as child:
            assert [child.line(), child.line()] == ["starting", "serving"]
            child.signal(number)
            assert child.line() == "lame_duck"
            begin = time.monotonic()
            child.signal(number)
            status, out, err = child.end()
            assert time.monotonic() - begin < 30.0
            assert status == -number
            assert "never" not in out
            assert "aborted after" in err
            assert "did not stop: db" in err

    def test_a_stop_that_hangs_ends_within_the_budget_and_is_named(self):
        code = """
            life = Lifecycle("hung", lame_duck=0.1, drain=0.1, stop=1.5)
            life.add("db", stop=lambda: say("db down"))
            life.add("http", stop=lambda: time.sleep(60), depends_on=["db"])
            life.on_phase(lambda phase: phase.value == "serving" and say("up"))
            life.run()
        """
        with Child(code) as child:
            assert child.line() == "up"
            child.signal()
            begin = time.monotonic()
            status, out, err = child.end()
            assert time.monotonic() - begin < 30.0  # not the 60 s of the hang
            assert status == 1
            assert "StopFailed" in err
            assert "did not stop: http" in err
            assert "db down" in out

    def test_a_loop_that_is_blocked_for_good_does_not_outlive_the_budget(self):
        code = """
            life = Lifecycle("stuck", lame_duck=0.1, drain=0.1, stop=0.2)
            async def start():
                loop = asyncio.get_running_loop()
                def block():
                    say("up")
                    time.sleep(60)
                def later(phase):
                    if phase.value == "serving":
                        loop.call_soon_threadsafe(loop.call_later, 0.1, block)
                life.on_phase(later)
            async def stop(): say("never")
            life.add("a", start=start, stop=stop)
            life.run(overrun=0.3)
        """
        with Child(code) as child:
            assert child.line() == "up"
            time.sleep(0.2)
            child.signal()
            begin = time.monotonic()
            status, out, err = child.end()
            assert time.monotonic() - begin < 30.0
            assert status == 70
            assert "did not stop: a" in err
            assert "still busy" in err
            assert "never" not in out

    def test_in_a_blocked_main_thread_the_signal_still_makes_it_unready_at_once(self):
        code = """
            life = Lifecycle("x", lame_duck=0.3, drain=0.1, stop=0.1)
            with life:
                say("up")
                end = time.monotonic() + 20
                while life.ready and time.monotonic() < end: pass
                say("ready", life.ready)
                # The shutdown does not wait for this thread.
                while life.phase.value != "stopped" and time.monotonic() < end: time.sleep(0.02)
                say(life.phase.value)
        """
        with Child(code) as child:
            assert child.line() == "up"
            child.signal()
            assert child.line() == "ready False"
            assert child.line() == "stopped"
            assert child.end()[0] == 0

    @pytest.mark.parametrize("kind", ["def", "async def"])
    def test_a_signal_during_the_start_is_an_orderly_end(self, kind):
        code = """
            life = Lifecycle("x", lame_duck=60.0)
            KIND start():
                say("starting")
                WAIT
            life.add("db", start=lambda: None, stop=lambda: say("db down"))
            life.add("http", start=start, stop=lambda: say("http down"), depends_on=["db"])
            say(life.run().start_failed)
        """
        # The task is cancelled by the signal; the thread has to last until it has come.
        wait = "time.sleep(1.5)" if kind == "def" else "await asyncio.sleep(50)"
        with Child(code.replace("KIND", kind).replace("WAIT", wait)) as child:
            assert child.line() == "starting"
            child.signal()
            status, out, err = child.end()
            assert status == 0, err
            # A thread cannot be interrupted, so it starts and is stopped; a task is cancelled.
            down = ["http down", "db down"] if kind == "def" else ["db down"]
            assert out.splitlines() == [*down, "None"]

    def test_a_start_failure_ends_the_process_with_the_story(self):
        code = """
            life = Lifecycle("x")
            life.add("db", start=lambda: say("up"), stop=lambda: say("down"))
            life.add("http", start=lambda: 1 / 0, depends_on=["db"])
            life.run()
        """
        with Child(code) as child:
            status, out, err = child.end()
            assert status == 1
            assert out.split() == ["up", "down"]
            assert "StartFailed: http of x did not start: division by zero" in err
            assert "ZeroDivisionError" in err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_dies_by_the_signal_and_leaves_the_service_alone():
    code = """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        life = Lifecycle("x", lame_duck=0.0)
        with life:
            ready, tell = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    life.wait()
                except Exception as error:
                    say(type(error).__name__)
                os.write(tell, b"x")
                time.sleep(60)
                os._exit(0)
            os.read(ready, 1)
            os.kill(pid, signal.SIGTERM)
            say("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            say("ready", life.ready)
    """
    with Child(code) as child:
        assert child.line() == "LifecycleError"
        assert child.line() == "child -15"
        assert child.line() == "ready True"
        assert child.end()[0] == 0
