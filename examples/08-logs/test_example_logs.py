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
    assert "nginx.combined has client:" in out
    assert "json has level:str, user:str, took:float" in out
    assert "failed: 40\n" in out
    assert "account: 3001 lines = 3000 records + 1 rejects, 2960 filtered" in out
    assert "followed: 201 records over 4 rotations" in out
    assert "in order: True" in out
    assert "redacted: [email]" in out
    assert "('web2', 'failed', 'in two lines')" in out
