"""Which build of the decision modules runs, and the way back to the source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from hastack._core import _accel

REPORT = """
import json, sys
import hastack
from hastack._core import _accel
kinds = _accel.report()
print(json.dumps([kinds, [sys.modules[name].__file__ for name in kinds]]))
"""


def report(**env: str) -> tuple[dict[str, str], list[str]]:
    command = [sys.executable, "-c", REPORT]
    out = subprocess.check_output(command, env={**os.environ, **env}, text=True, timeout=50)
    kinds, files = json.loads(out)
    return kinds, files


def test_report_names_every_module_that_can_be_compiled() -> None:
    kinds = _accel.report()
    assert tuple(kinds) == _accel.COMPILED_MODULES
    assert len(set(kinds.values())) == 1, "a build is compiled as a whole or not at all"
    assert set(kinds.values()) <= {"compiled", "pure"}


def test_hastack_pure_goes_back_to_the_source() -> None:
    kinds, files = report(HASTACK_PURE="1")
    assert set(kinds.values()) == {"pure"}
    assert all(file.endswith(".py") for file in files)


def test_hastack_pure_zero_means_no() -> None:
    kinds, _ = report(HASTACK_PURE="0")
    assert kinds == _accel.report()


def test_the_finder_prefers_the_source_beside_an_extension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "hastack.ratelimit._decision"
    (tmp_path / "_decision.py").write_text("kind = 'source'\n")
    (tmp_path / f"_decision{EXTENSION_SUFFIXES[0]}").write_bytes(b"")
    spec = _accel._SourceFirst().find_spec(name, [str(tmp_path)])
    assert spec is not None
    assert spec.origin == str(tmp_path / "_decision.py")
    assert _accel._SourceFirst().find_spec(name, [str(tmp_path / "nowhere")]) is None
    assert _accel._SourceFirst().find_spec("hastack.ratelimit._guard", [str(tmp_path)]) is None
