"""One SIGTERM ends everything: in order, within the budget, with a report, whichever part hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("grpc")
pytest.importorskip("uvicorn")
pytest.importorskip("wasmtime")

from bpf_objects import built, kernel_objects, lacks, settles
from otlp_servers import HttpServer
from whole_stack import ask

ROOT = Path(__file__).resolve().parents[2]
SLACK = 12.0  # seconds on a machine that is busy with something else


class Child:
    """The service as a process; what it says as it comes."""

    def __init__(self, settings):
        self.said = []
        self.ended = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/support/whole_service.py"), json.dumps(settings)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests/support")]),
                "PYTHONWARNINGS": "error",
            },
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.said.append(json.loads(line))
        self.ended.set()

    def wait_for(self, what, seconds=30.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for each in list(self.said):
                if each["what"] == what:
                    return each
            assert not self.ended.is_set(), self.process.stderr.read()
            time.sleep(0.01)
        raise AssertionError(f"no {what!r} in {self.said}")

    def up(self):
        host, _, port = self.wait_for("up")["address"].rpartition(":")
        return host, int(port)

    def order(self):
        return [each["what"] for each in self.said]

    def end(self, seconds):
        """Exit status and seconds it took; fails when it hangs."""
        began = time.monotonic()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it hangs after {self.said}") from None
        self.reader.join()
        return self.process.returncode, time.monotonic() - began

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture(scope="module")
def object_file(tmp_path_factory):
    if lacks("program:xdp", "map:ringbuf"):
        return ""  # the rest of the service is there on any machine
    path = tmp_path_factory.mktemp("object") / "basics.bpf.o"
    path.write_bytes(built("basics"))
    return str(path)


@pytest.fixture
def start(etcd, object_file, tmp_path):
    """Starts the service; what it uses ends with the test."""
    with HttpServer() as collector:

        def begin(**settings):
            return Child(
                {
                    "endpoint": etcd.endpoint,
                    "collector": collector.url,
                    "log": str(tmp_path / "app.log"),
                    "object": object_file,
                    **settings,
                }
            )

        begin.etcd, begin.collector, begin.log = etcd, collector, tmp_path / "app.log"
        yield begin


def in_background(address, path):
    answers = []

    def run():
        try:
            answers.append(ask(address, path))
        except (OSError, IndexError, ValueError) as error:  # cut off
            answers.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, answers


def test_everything_ends_in_order_and_what_was_begun_is_finished(start):
    before = kernel_objects() if not lacks("bpf") else None
    with start() as child:
        address = child.up()
        start.log.write_text("level=info n=1\nlevel=info n=2\n")
        thread, slow = in_background(address, "/slow")
        time.sleep(0.3)
        child.process.send_signal(signal.SIGTERM)
        child.wait_for("lame_duck")
        assert ask(address, "/quick")[0] == 200  # still served
        status, _ = child.end(30.0)
        thread.join()
        assert slow[0][:1] == (200,)
        order, report = child.order(), child.wait_for("report")
        assert status == 0, child.process.stderr.read()
        assert report["ok"], report
        assert order.index("lame_duck") < order.index("draining") < order.index("logs down")
        assert order.index("draining") < order.index("policy down")
        assert order.index("registry down") < order.index("report")
        stopped = report["stopped"]
        place = stopped.index
        assert place("discovery suite") < place("http") < place("grpc") < place("policy")
        assert stopped[-1] == "observe"
        # The last words of each part were exported before the exporters went.
        bodies = [body for _, body in start.collector.records()]
        assert "served /slow" in bodies
        assert any(body.startswith("read 2 lines") for body in bodies)
    if before is not None:
        assert settles(before)


HANGS = {
    # what hangs: (the request that sets it off, who is named)
    "request": ("/stuck", "http"),
    "thread": ("/thread", "http"),
    "guest": ("/guest", "http"),
    "loop": ("/loop", "http"),
    "etcd": (None, "registry"),
    "policy": (None, "policy"),
    "probes": (None, "probes"),
    "registry": (None, "registry"),
    "logs": (None, "log files"),
    "collector": (None, "observe"),
}


@pytest.mark.parametrize("what", HANGS)
def test_whichever_part_hangs_the_budget_holds_and_the_report_names_it(start, what):
    path, named = HANGS[what]
    with start(hang=what, lame_duck=0.1, drain=0.7, stop=1.2, overrun=0.5) as child:
        address = child.up()
        begun = None
        if path:
            begun = in_background(address, path)
            child.wait_for(f"{what} hangs")
        if what == "etcd":
            start.etcd.pause()
        if what == "collector":
            start.collector.always = "black hole"
            ask(address, "/quick")
        if what == "logs":
            start.log.write_text("level=info n=1\n")
            child.wait_for("logs hangs")
        child.process.send_signal(signal.SIGTERM)
        try:
            status, took = child.end(30.0)
        finally:
            start.etcd.resume()
        report = next((each for each in child.said if each["what"] == "report"), None)
        text = child.process.stderr.read()
        if begun:
            begun[0].join()
        if what in {"thread", "guest", "loop"}:
            assert status == 70, text
        # 2 s of budget and 0.5 s of overrun; a hang would be 30 s or 60 s.
        assert took < 2.5 + SLACK, (what, took)
        assert "suite: stopped after" in text or report is not None, text
        if report is not None:
            assert report["took"] < report["budget"] + 2.0
        if named is not None:
            assert status != 0, (report, text)
            assert named in (report["text"] if report else text), (report, text)


def test_a_second_sigterm_ends_it_at_once(start):
    with start(lame_duck=30.0) as child:
        child.up()
        child.process.send_signal(signal.SIGTERM)
        child.wait_for("lame_duck")
        child.process.send_signal(signal.SIGTERM)
        status, took = child.end(25.0)
        assert took < 25.0
        assert status == -signal.SIGTERM
    assert start.etcd.process is not None


def test_a_sigterm_during_the_start_ends_it_in_order(start):
    with start(hang="start") as child:
        child.wait_for("start hangs")
        child.process.send_signal(signal.SIGTERM)
        status, took = child.end(30.0)
        assert took < 4.5 + 1.0 + SLACK
        order = child.order()
        assert "serving" not in order
        assert "policy down" in order
        assert "report" in order or status == 70


def test_after_a_sigkill_nothing_is_left_but_a_lease_that_runs_out(start):
    before = kernel_objects() if not lacks("bpf") else None
    with start() as child:
        child.up()
        child.process.kill()
        child.end(10.0)
    if before is not None:
        assert settles(before)
    with start() as again:  # on the same store, with the same files
        address = again.up()
        assert ask(address, "/quick")[0] == 200
        again.process.send_signal(signal.SIGTERM)
        assert again.end(30.0)[0] == 0
