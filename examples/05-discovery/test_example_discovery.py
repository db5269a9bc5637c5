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
    said = [line for line in done.stdout.splitlines() if not line.startswith("    ")]
    assert said[:4] == ["three are there", "one has left", "one is ill", "and well again"]
    killed = re.search(r"gone after (\S+) s", said[4])
    assert killed is not None
    assert float(killed[1]) > 0.5  # its lease was kept alive a moment ago
    assert said[5] == "the last one says hello"
    changes = re.findall(r"    (\w+) (\S+)( \(draining\))?", done.stdout)
    assert [kind for kind, _, _ in changes[:3]] == ["added"] * 3
    assert any(draining for _, _, draining in changes)
    assert sum(kind == "removed" for kind, _, _ in changes) >= 3
