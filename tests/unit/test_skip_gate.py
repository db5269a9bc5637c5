"""In CI a test must not vanish: a skip that nobody allowed fails the run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"


def run(folder: Path, *, allowed: str, ci: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder)
    (folder / "allowed_skips.txt").write_text(allowed)
    (folder / "test_it.py").write_text(
        "import pytest\n"
        "def test_runs(): pass\n"
        "@pytest.mark.xfail\n"
        "def test_known(): assert False\n"
        "def test_skips(): pytest.skip('no such thing here')\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", ".", "."]
    # Without the plugins around it starts in half the time.
    environment = {**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("allowed", "ci", "status"),
    [
        ("# nothing\n", "true", 1),
        ("test_it.py::test_other  # another\n", "1", 1),
        ("test_it.py::test_skips  # needs a thing\n", "true", 0),
        ("*::test_skip*\n", "true", 0),
        ("", "", 0),
        ("", "false", 0),
    ],
)
def test_unexpected_skips_fail_in_ci_only(
    tmp_path: Path, allowed: str, ci: str, status: int
) -> None:
    done = run(tmp_path, allowed=allowed, ci=ci)
    assert done.returncode == status, done.stdout
    named = "test_it.py::test_skips: Skipped: no such thing here" in done.stdout
    assert named == bool(status)
    assert "1 passed, 1 skipped, 1 xfailed" in done.stdout.splitlines()[-1]
