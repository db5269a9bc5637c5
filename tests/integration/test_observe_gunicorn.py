"""Under a real gunicorn, preloaded and not: nothing is lost but what a killed worker had in memory."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from otlp_servers import HttpServer
from prometheus_servers import free_port

ROOT = Path(__file__).resolve().parents[2]


def get(port, path, seconds=30.0):
    """The answer; connections that wait for a worker that dies are reset, so it asks again."""
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.02)


@contextlib.contextmanager
def gunicorn(folder, collector, *options):
    """Two workers; yields the process, the port of the application and that of the page."""
    port, page = free_port(), free_port()
    settings = {
        "SERVICE": "shop",
        "BACKENDS__MAIN__ENDPOINT": collector.url,
        "QUEUE__LINGER": "10ms",
        "METRICS_EVERY": "100ms",
        "METRICS_DIRECTORY": str(folder / "metrics"),
        "PROMETHEUS__ENABLED": "true",
        "PROMETHEUS__PORT": str(page),
        "PROMETHEUS__HOST": "127.0.0.1",
    }
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests/support")]),
        **{f"HASTACK_OBSERVE__{name}": value for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "gunicorn", "--workers=2", f"--bind=127.0.0.1:{port}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--no-control-socket", *options, "gunicorn_application:app"],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        try:
            yield process, port, page
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def total(text):
    """What the page says of all requests."""
    (line,) = [each for each in text.splitlines() if each.startswith("app_requests_total{")]
    return float(line.rpartition(" ")[2])


def wait_for(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["loaded", "preloaded"])
def test_workers_that_are_killed_and_replaced(tmp_path, options):
    with HttpServer() as collector, gunicorn(tmp_path, collector, *options) as (master, port, page):
        sent = []

        def ask(count):
            names = [f"r-{len(sent) + number}" for number in range(count)]
            sent.extend(names)
            return {int(get(port, name)) for name in names}

        ask(1)
        pids = set()
        wait_for(lambda: len(pids.update(ask(5)) or pids) == 2)
        wait_for(lambda: len(collector.spans()) == len(sent))  # nothing is left in memory
        assert total(get(page, "metrics")) == len(sent)

        victim = pids.pop()
        os.kill(victim, signal.SIGKILL)
        replaced = set()
        wait_for(lambda: replaced.update(ask(5)) or replaced - pids - {victim})
        assert total(get(page, "metrics")) == len(sent)  # what the dead one counted stays

        ask(20)
        assert total(get(page, "metrics")) == len(sent)
        assert "app_sdk_requests" not in get(page, "metrics")
        master.send_signal(signal.SIGTERM)
        assert master.wait(30) == 0
        # What was in memory at the end was delivered by each worker before it went.
        assert sorted(name for _, name in collector.spans()) == sorted(sent)
        ours = [body for _, body in collector.records() if body.startswith("r-")]
        assert sorted(ours) == sorted(sent)
        (point,) = collector.metrics()["app.requests"].sum.data_points
        assert point.as_int == len(sent)
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log, log
