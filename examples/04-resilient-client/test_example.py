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
    well, busy, slow = re.findall(r"tea: (\S+) +(\d+) ms, (\d+) requests", done.stdout)
    assert (well[0], busy[0], slow[0]) == ("3.20",) * 3
    assert (busy[2], slow[2]) == ("2", "2")
    assert int(slow[1]) < 900  # the slow answer takes a second
    assert "60 answers, all of them 3.10 (last known)" in done.stdout
    sent = re.search(r"(\d+) retries, (\d+) requests reached", done.stdout)
    assert sent is not None
    assert int(sent[2]) < 40  # 60 calls with 4 attempts each could have been 240
    assert "the breaker is open" in done.stdout
