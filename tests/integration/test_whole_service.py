"""The whole service of examples/11-whole-service, broken under load: what do its clients see?"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
NEEDED = ("starlette", "uvicorn", "grpc", "httpx", "opentelemetry.sdk", "msgspec", "wasmtime")

# Seven processes start, and a busy machine takes its time for that.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@contextlib.contextmanager
def scenario(*options):
    """The command in a process group of its own, of which nothing is left afterwards."""
    for each in NEEDED:
        pytest.importorskip(each)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "hastack",
            "demo",
            "scenario",
            "--quick",
            "--json",
            "--rate=25",
            *options,
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")])
            ),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def rows(*options):
    with scenario(*options) as process:
        out, said = process.communicate(timeout=200)
    assert process.returncode in {0, 1}, said
    return {row["fault"]: row for row in json.loads(out)}, said


def check(row):
    """Within its budget, as far as the machine had time for the service.

    A stall makes answers late and opens breakers; that the load itself was late tells of one.
    """
    seen = f"{row['fault']}: {row}"
    assert row["requests"] >= 20, seen
    busy = min(0.5, row["late"] * 2.0)
    failed, refused = row["budget"]["failed"] + busy, row["budget"]["refused"] + busy + 0.05
    assert row["failed"] <= failed * row["requests"] + 1, seen
    assert row["refused"] <= refused * row["requests"], seen
    assert row["ok"] > 0, seen


def test_no_fault_costs_clients_more_than_its_budget():
    found, said = rows()
    assert list(found) == [
        *("none", "greedy client", "inventory slow", "instance killed", "store lost"),
        *("collector away", "bad plugins", "config typo", "SIGTERM"),
    ]
    for row in found.values():
        check(row)
    assert found["inventory slow"]["refused"] > 0  # the breakers did open
    served, told_to_wait = (
        int(part.split()[0]) for part in found["greedy client"]["note"].split(": ")[1].split(", ")
    )
    assert served >= 30
    assert served + told_to_wait <= 300
    assert "none lost, none twice" in said
    assert "are logfmt: level: str, method: str, path: str, status: int, took: duration" in said


def test_the_same_on_etcd_with_prometheus():
    for each in ("etcd", "prometheus"):
        if shutil.which(each) is None:
            pytest.skip(f"{each} is not installed")
    found, said = rows("--real", "--only=store lost", "--only=collector away")
    for row in found.values():
        check(row)
    assert "on etcd://" in said
    assert found["store lost"]["note"] == "killed, and started again with its data"
    counted = int(said.partition("Prometheus counts ")[2].split()[0])
    assert counted > 0


def test_an_end_in_the_middle_leaves_nothing_behind():
    with scenario("--only=none") as process:
        assert process.stderr.readline().startswith("Up after")  # all are there
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 130
        # The group is empty once the last of them has been waited for.
        end = time.monotonic() + 30.0
        while time.monotonic() < end:
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.05)
        raise AssertionError("something still runs")
