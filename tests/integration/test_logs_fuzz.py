"""A few seconds of `bench/fuzz_logs.py`: no crash, no hang, no lost line. HASTACK_FUZZ_SECONDS: more."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "bench" / "fuzz_logs.py"


@pytest.mark.timeout(float(os.environ.get("HASTACK_FUZZ_SECONDS", "0")) + 60)
def test_broken_lines_and_patterns():
    spec = importlib.util.spec_from_file_location("fuzz_logs", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    counts = module.fuzz(float(os.environ.get("HASTACK_FUZZ_SECONDS", "3")), seed=7)
    assert sum(counts.values()) > 3
