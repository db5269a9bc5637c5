"""The soak, short: it finds nothing in hastack, and everything in what loses things on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

for package in ("grpc", "wasmtime", "parsy", "opentelemetry", "uvicorn"):
    pytest.importorskip(package)

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench"))


def soak(*options):
    """Exit status, and the verdict on each row of the table."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench/soak.py"), "--rate", "80", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    found = {row[0].strip(): row[-1].strip() for row in rows if row[-1].strip()}
    assert len(found) == 8, done.stdout + done.stderr
    return done.returncode, found, done.stdout


@pytest.mark.timeout(300)  # a busy machine takes its time until everything is up
def test_nothing_grows():
    status, found, text = soak("0.25")
    assert found == dict.fromkeys(found, "flat"), text
    assert status == 0
    assert "end: stopped after" in text
    for fault in ("etcd stops", "collector stops", "config breaks", "bad plugin"):
        assert fault in text


@pytest.mark.timeout(300)
def test_what_is_lost_is_found():
    planted = ("memory", "descriptors", "threads", "tasks", "timers")
    status, found, text = soak("0.15", *(f"--leak={name}" for name in planted))
    assert status == 1
    grown = {name for name, verdict in found.items() if verdict == "GROWS"}
    assert {"traced KiB", "descriptors", "threads", "tasks", "timers"} <= grown, text
    assert "kernel objects" not in grown


def test_the_verdict():
    from soak_verdict import ALLOWED, judge

    flat = [dict.fromkeys(ALLOWED, 1000.0) for _ in range(20)]
    assert all(row.flat for row in judge(flat))
    warm = [dict.fromkeys(ALLOWED, min(n, 5) * 1000.0) for n in range(20)]
    assert all(row.flat for row in judge(warm))  # grew while it was warming up
    spikes = [dict.fromkeys(ALLOWED, 1e6 if n % 3 else 1000.0) for n in range(20)]
    assert all(row.flat for row in judge(spikes))  # busy is no trend
    growing = [dict.fromkeys(ALLOWED, n * 1000.0) for n in range(20)]
    assert not any(row.flat for row in judge(growing))
    with pytest.raises(ValueError, match="at least 8"):
        judge(flat[:7])
