"""Runs the example as a user would."""

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

HERE = Path(__file__).parent


def test_example():
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    source = str(HERE.parents[1] / "src")
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [sys.executable, str(HERE / "example.py"), "--port", "0"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            token = process.stdout.readline().split()[-1]
            end = time.monotonic() + 40.0
            while True:
                assert time.monotonic() < end
                with urllib.request.urlopen(f"{address}snapshot.json", timeout=20) as answer:
                    shot = json.loads(answer.read())
                if any(row["allowed"] for row in shot["limiters"] if row["name"] == "orders"):
                    break
                time.sleep(0.1)
            rows = {row["name"]: row for row in (*shot["breakers"], *shot["adaptive"])}
            assert {"stock", "workers"} <= set(rows)
            assert shot["services"][0]["instances"][0]["own"] is True
            body = json.dumps({"action": "open", "target": rows["stock"]["id"]}).encode()
            fields = {"authorization": f"Bearer {token}", "content-type": "application/json"}
            request = urllib.request.Request(f"{address}actions", body, fields)
            with urllib.request.urlopen(request, timeout=20) as answer:
                assert answer.status == 200
            with urllib.request.urlopen(f"{address}snapshot.json", timeout=20) as answer:
                found = json.loads(answer.read())["breakers"]
            assert [row["state"] for row in found if row["name"] == "stock"] == ["forced open"]
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=40)
            assert process.returncode in {0, -signal.SIGINT}, said
            assert "Traceback" not in said
        finally:
            process.kill()
