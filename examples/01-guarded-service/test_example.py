import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def call(port, path, *, method="GET", **headers):
    url = f"http://127.0.0.1:{port}{path}"
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=names)
    try:
        with urllib.request.urlopen(request, timeout=10.0) as reply:
            return reply.status, reply.headers, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def until(condition):
    end = time.monotonic() + 20.0
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise AssertionError("waited 20 s")


@pytest.fixture
def service():
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    port, health = free_port(), free_port()
    source = str(HERE.parents[1] / "src")
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    arguments = ["--port", port, "--health-port", health, "--lame-duck", 0.6]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "service.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: call(health, "/readyz")[0] == 200)
        yield process, port, health
    finally:
        process.kill()
        process.communicate()


def test_example(service):
    process, port, health = service
    assert json.loads(call(port, "/stock/tea")[2]) == {"stock": 3}

    # One client asks too often, the other is not concerned.
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(call, port, "/stock/tea", x_client="greedy") for _ in range(30)]
    statuses = [each.result() for each in asked]
    assert [each[0] for each in statuses].count(200) >= 5
    limited = next(each for each in statuses if each[0] == 429)
    assert limited[1]["retry-after"] == "1"
    assert json.loads(limited[2])["guard"] == "per-client"
    assert call(port, "/stock/tea", x_client="modest")[0] == 200

    assert call(port, "/slow", x_request_timeout_ms="100")[0] == 504

    # The inventory breaks: liveness stays, readiness names it, the breaker opens.
    call(port, "/switch", method="POST")
    until(lambda: call(health, "/readyz")[0] == 503)
    assert "inventory: ConnectionRefusedError" in call(health, "/readyz")[2]
    assert call(health, "/healthz")[0] == 200
    broken = [call(port, "/stock/tea", x_client=str(n)) for n in range(40)]
    assert broken[0][0] == 500
    refused = next(each for each in broken if each[0] == 503)
    assert 1 <= int(refused[1]["retry-after"]) <= 4
    call(port, "/switch", method="POST")
    until(lambda: call(port, "/readyz")[0] == 200)

    metrics = call(port, "/metrics")[2]
    assert 'hastack_lifecycle_phase{phase="serving"} 1' in metrics
    assert "hastack_breaker_changed_total{" in metrics
    assert "hastack_request_rejected_total{" in metrics

    # Told to end: not ready at once, still serving, then an orderly end.
    process.send_signal(signal.SIGTERM)
    until(lambda: call(health, "/readyz")[0] == 503)
    assert call(port, "/slow")[0] == 200  # in flight when the lame duck was over
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0, log
    assert "ended by: received SIGTERM" in log
    assert "stopped after" in log
