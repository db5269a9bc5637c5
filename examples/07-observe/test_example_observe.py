"""Runs the example as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_example():
    source = str(HERE.parents[1] / "src")
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(HERE / "example.py")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert "delivered: True" in out
    assert "spilled" in out.split("in the outage:")[1].splitlines()[0]
    assert "after it: 2000 emitted, 2000 sent\n" in out
    assert out.count("once and in order: True") == 2
    assert out.count("arrived") == 3
    assert "500 spans are on disk, 0 lost" in out
    assert "the next process: 1 emitted, 500 recovered, 501 sent" in out
