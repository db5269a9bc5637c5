"""The example does what it says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_a_policy_is_signed_tried_and_changed():
    if not (shutil.which("clang") and shutil.which("wasm-ld")):
        pytest.skip("clang and lld are not installed")
    source = str(HERE.parents[1] / "src")
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    expected = (HERE / "README.md").read_text(encoding="utf-8").partition("```text\n")[2]
    assert done.stdout == expected.partition("```")[0]
