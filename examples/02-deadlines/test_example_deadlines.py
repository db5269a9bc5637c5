"""Runs the example as a user would."""

from __future__ import annotations

import os
import re
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
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told, untold = (
        int(ms) for ms in re.findall(r"the slow back end computed for (\d+) ms", done.stdout)
    )
    assert told < 1000 <= untold
    assert "with ['/price', '/stock']" in done.stdout  # twice, unless the machine is very busy
    assert "'/recommendations'" not in done.stdout
    assert done.stdout.count("audit written") == 2
    assert "context cancelled: drained by the operator" in done.stdout
