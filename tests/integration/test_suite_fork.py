"""Fork with everything on: what children get works or is refused, and nothing is told twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("grpc")
pytest.importorskip("wasmtime")
pytest.importorskip("parsy")
pytest.importorskip("opentelemetry")

from bpf_objects import built, lacks
from otlp_servers import HttpServer

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests/support")]),
}

WORKS = (
    *("limit", "breaker", "deadline", "plugin", "guest that never ends", "parser", "config", "map"),
    "registry",
)
REFUSED = {
    "store": {"ForkUnsafe"},  # gRPC does not survive a fork of a process that uses it
    "engine": {"ClosedError"},  # its file and its place belong to the parent
    "ring": {"ForkUnsafe", "ok"},  # ok where there is no ring
}


def assert_inherited(said):
    assert {name: said[name] for name in WORKS} == dict.fromkeys(WORKS, "ok")
    for name, allowed in REFUSED.items():
        assert said[name] in allowed, (name, said[name])


@pytest.fixture(scope="module")
def object_file(tmp_path_factory):
    if lacks("program:xdp", "map:ringbuf"):
        return ""  # the rest is there on any machine
    path = tmp_path_factory.mktemp("object") / "basics.bpf.o"
    path.write_bytes(built("basics"))
    return str(path)


@pytest.fixture
def settings(etcd, tmp_path, object_file):
    with HttpServer() as collector:
        yield (
            collector,
            {
                "endpoint": etcd.endpoint,
                "collector": collector.url,
                "folder": str(tmp_path),
                "object_file": object_file,
            },
        )


def children(collector, how, given):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/support/whole_fork.py"), how, json.dumps(given)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=58,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_told_once(collector, pids):
    spans = [name for _, name in collector.spans() if name.startswith("child-")]
    assert sorted(spans) == sorted(f"child-{pid}" for pid in pids)
    bodies = [body for _, body in collector.records() if body.startswith("child ")]
    assert sorted(bodies) == sorted(f"child {pid}" for pid in pids)


@pytest.mark.parametrize("how", ["os.fork", "fork"])
def test_children_of_a_fork_work_or_are_refused(settings, how):
    collector, given = settings
    found = children(collector, how, given)
    assert len(found) == 3
    for child in found:
        assert_inherited(child["said"])
    assert_told_once(collector, [child["pid"] for child in found])


@pytest.mark.parametrize("how", ["spawn", "forkserver"])
def test_children_that_begin_anew_have_everything(settings, how):
    collector, given = settings
    (child,) = children(collector, how, given)
    said = child["said"]
    assert said == dict.fromkeys(said, "ok")
    assert len(said) > 10
    assert_told_once(collector, [child["pid"]])


def test_gunicorn_preloaded_with_everything_on(settings, tmp_path):
    pytest.importorskip("gunicorn")
    collector, given = settings
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers=2", "--no-control-socket"]
    with (tmp_path / "gunicorn.log").open("w") as out:
        process = subprocess.Popen(
            [*command, "--bind=127.0.0.1:0", "whole_fork:app"],
            env={**ENVIRONMENT, "SUITE_SETTINGS": json.dumps(given)},
            cwd=tmp_path,
            stdout=out,
            stderr=out,
        )
    try:
        url = wait_for_address(process, tmp_path / "gunicorn.log")
        pids = []
        end = time.monotonic() + 30
        while len(set(pids)) < 2 and time.monotonic() < end:
            with urllib.request.urlopen(url, timeout=30) as answer:
                child = json.loads(answer.read())
            assert_inherited(child["said"])
            pids.append(child["pid"])
        assert len(set(pids)) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    assert_told_once(collector, pids)
    text = (tmp_path / "gunicorn.log").read_text()
    assert "Traceback" not in text, text


def wait_for_address(process, path):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        text = path.read_text()
        if "Listening at: " in text:
            return text.partition("Listening at: ")[2].split()[0]
        assert process.poll() is None, text
        time.sleep(0.05)
    raise AssertionError(path.read_text())


COUNTS = """
import multiprocessing, os, sys
from hastack import observe
installed = observe.install(observe.ObserveConfig(
    service="suite", backends={"main": observe.BackendConfig(endpoint=sys.argv[2])},
    metrics_every=3600.0))
count = installed.metrics.meter("suite").counter("suite.work")
if sys.argv[1] == "os.fork":
    if os.fork() == 0:
        count.add(7)
        sys.exit(0)
    os.wait()
else:
    child = multiprocessing.get_context("fork").Process(target=count.add, args=(7,))
    child.start()
    child.join()
os._exit(0)
"""


@pytest.mark.parametrize("how", ["os.fork", "multiprocessing"])
def test_a_child_that_only_counts_is_collected_at_its_end(how):
    """Nothing was emitted before: the last collection is the first item, at interpreter exit."""
    with HttpServer() as collector:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", COUNTS, how, collector.url],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (point,) = collector.metrics()["suite.work"].sum.data_points
        assert point.as_int == 7
