"""The stand-alone health server, over real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from hastack.contrib.health_server import HealthServer
from hastack.errors import ClosedError, InvalidArgument
from hastack.health import Health
from hastack.lifecycle import Lifecycle


def ask(port, path="/healthz", *, raw=None, method="GET", headers=""):
    with socket.create_connection(("127.0.0.1", port), timeout=30.0) as sock:
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()
        sock.sendall(raw if raw is not None else request)
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), body


def until(port, status):
    """Ask until ``status`` is the answer; a busy machine may take its time."""
    end = time.monotonic() + 20.0
    while (answer := ask(port))[0] != status:
        assert time.monotonic() < end, answer
        time.sleep(0.02)
    return answer


@pytest.fixture
def health():
    return Health("orders")


@pytest.fixture(params=[False, True], ids=["thread", "process"], autouse=True)
def process(request, monkeypatch):
    """Every promise holds with and without the process."""
    original = HealthServer.__init__

    def init(self, health, **options):
        original(self, health, **{"process": request.param, **options})

    monkeypatch.setattr(HealthServer, "__init__", init)
    return request.param


def test_the_endpoints(health):
    health.add_check("db", lambda: False, failures=1)
    with HealthServer(health, port=0) as server:
        assert ask(server.port)[::2] == (200, b"live: pass\n")
        status, head, body = ask(
            server.port, "/readyz?verbose", headers="Accept: application/json\r\n"
        )
        assert status == 503
        assert "content-type: application/json" in head
        assert b'"db: returned False"' in body
        assert ask(server.port, "/startupz")[0] == 200
        assert ask(server.port, "/metrics")[2].endswith(b"# EOF\n")
        assert ask(server.port, "/else")[0] == 404
        assert ask(server.port, method="POST")[0] == 405
        head_only = ask(server.port, method="HEAD")
        assert (head_only[0], head_only[2]) == (200, b"")
        assert "content-length: 11" in head_only[1]
        assert "connection: close" in head_only[1]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /healthz SPDY/3\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 9000, 431),
    ],
)
def test_what_is_no_request(health, raw, status):
    with HealthServer(health, port=0) as server:
        assert ask(server.port, raw=raw)[0] == status
        assert ask(server.port)[0] == 200


def test_a_request_in_pieces(health):
    with (
        HealthServer(health, port=0) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10.0) as sock,
    ):
        for piece in (b"GET /hea", b"lthz HTTP/1.1\r\n", b"\r\n"):
            sock.sendall(piece)
            time.sleep(0.02)
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_slow_clients_are_cut_off_and_bounded(health):
    with HealthServer(health, port=0, timeout=0.4, max_connections=3) as server:
        begin = time.monotonic()
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(6)]
        for sock in slow:
            sock.sendall(b"GET /healthz")
        # All places are taken; the answer comes when the slow ones have been dropped.
        assert ask(server.port)[0] == 200
        assert time.monotonic() - begin > 0.3
        for sock in slow:
            sock.close()


def test_liveness_does_not_wait_for_a_dependency(health):
    gate = threading.Event()
    health.add_check("db", lambda: gate.wait(50.0), timeout=50.0)
    with HealthServer(health, port=0) as server:
        assert ask(server.port)[0] == 200  # its process is up
        statuses = []
        threads = [
            threading.Thread(target=lambda: statuses.append(ask(server.port, "/readyz")[0]))
            for _ in range(5)
        ]
        for each in threads:
            each.start()
        end = time.monotonic() + 20.0
        while "hastack-health-ready" not in (names := [t.name for t in threading.enumerate()]):
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(0.1)  # for the others to come
        assert ask(server.port)[0] == 200  # although the check still waits
        names = [each.name for each in threading.enumerate()]
        assert names.count("hastack-health-ready") == 1
        gate.set()
        for each in threads:
            each.join(30.0)
        assert statuses == [200] * 5


def test_a_blocked_loop_turns_healthz_bad_and_recovers(health):
    with HealthServer(health, port=0) as server:
        seen = []

        async def main():
            health.watch_loop(blocked_after=0.2)
            await asyncio.sleep(0.05)
            await asyncio.to_thread(until, server.port, 200)
            thread = threading.Thread(target=lambda: seen.append(until(server.port, 503)))
            thread.start()
            thread.join()  # blocks the loop: this is the fault that must be found
            await asyncio.sleep(0.05)
            await asyncio.to_thread(until, server.port, 200)

        asyncio.run(main())
        assert b"event loop: no sign of life" in seen[0][2]


def test_as_a_component_it_answers_until_the_very_end(health):
    life = Lifecycle("orders", lame_duck=0.1)
    health.lifecycle = life
    server = HealthServer(health, port=0)
    seen = []
    life.add(server)
    life.add("db", stop=lambda: seen.append(ask(server.port, "/readyz")), depends_on=[server.name])
    with life:
        assert ask(server.port, "/readyz")[0] == 200
    assert seen[0][0] == 503
    assert b"lifecycle: stopping" in seen[0][2]
    with pytest.raises(OSError):
        ask(server.port)


def test_stop_is_final_and_the_switch_interval_comes_back(health):
    before = sys.getswitchinterval()
    server = HealthServer(health, port=0, switch_interval=0.002)
    assert server.port == 0
    server.start()
    assert sys.getswitchinterval() == pytest.approx(0.002)
    server.stop()
    server.stop()
    assert sys.getswitchinterval() == before
    with pytest.raises(ClosedError):
        server.start()


@pytest.mark.parametrize(
    "options", [{"port": -1}, {"port": 70000}, {"max_connections": 0}, {"timeout": 0}]
)
def test_bad_options_are_named(health, options):
    with pytest.raises(InvalidArgument) as caught:
        HealthServer(health, **options)
    assert caught.value.parameter in options


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_does_not_hold_the_port(process):
    code = (
        f"""
process = {process}"""
        """
import os, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from hastack.contrib.health_server import HealthServer
from hastack.health import Health
server = HealthServer(Health(), port=0, process=process)
server.start()
port = server.port
ready, done = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    os.write(ready[1], b"x")
    os.read(done[0], 1)
    os._exit(0)
os.read(ready[0], 1)
server.stop()
again = HealthServer(Health(), port=port, process=process)  # fails while the child holds the listener
again.start()
again.stop()
os.write(done[1], b"x")
print(os.waitpid(pid, 0)[1])
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.strip() == "0", done.stderr


class TestProcess:
    @pytest.fixture(autouse=True)
    def process(self):
        """Asked for by each test here."""

    def test_liveness_comes_from_the_process_and_the_rest_from_the_service(self, health):
        health.add_check("db", lambda: False, failures=1)
        with HealthServer(health, port=0, process=True) as server:
            helper = server._helper[0]
            assert ask(server.port)[::2] == (200, b"live: pass\n")
            status, _, body = ask(server.port, "/readyz", headers="Accept: application/json\r\n")
            assert status == 503
            assert b"db: returned False" in body
            assert ask(server.port, "/metrics")[2].endswith(b"# EOF\n")
            assert ask(server.port, "/else")[0] == 404
            assert ask(server.port, method="POST")[0] == 405
        assert helper.poll() == 0
        with pytest.raises(OSError):
            ask(server.port)

    def test_a_blocked_thread_is_seen_from_outside(self, health):
        beat = health.heartbeat("worker", max_age=0.3)
        with HealthServer(health, port=0, process=True) as server:
            assert b"worker: no sign of life" in until(server.port, 503)[2]
            alive = threading.Event()

            def work():
                while not alive.wait(0.02):
                    beat.beat()

            worker = threading.Thread(target=work)
            worker.start()
            until(server.port, 200)
            alive.set()
            worker.join()
            until(server.port, 503)
            beat.close()
            until(server.port, 200)

    def test_what_is_watched_later_is_shared_too(self, health):
        with HealthServer(health, port=0, process=True) as server:
            health.heartbeat("late", max_age=0.1)
            until(server.port, 503)

    def test_it_answers_while_the_interpreter_is_held(self):
        code = """
import re, sys, time
from hastack.contrib.health_server import HealthServer
from hastack.health import Health
health = Health()
health.heartbeat("main", max_age=60.0)
server = HealthServer(health, port=0, process=True)
server.start()
print(server.port, flush=True)
sys.stdin.readline()
re.match(r"(a+)+$", "a" * 40 + "b")  # one C call that keeps the interpreter for good
"""
        service = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            port = int(service.stdout.readline())
            ask(port)
            service.stdin.write(b"go\n")
            service.stdin.flush()
            time.sleep(0.3)
            assert ask(port)[0] == 200
        finally:
            service.kill()
            service.communicate()
        # Killed outright, the service takes its helper with it.
        end = time.monotonic() + 20.0
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            except OSError:
                break
            assert time.monotonic() < end
            time.sleep(0.05)
