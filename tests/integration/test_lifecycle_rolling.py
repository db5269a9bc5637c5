"""Rolling restarts behind a real nginx lose nothing. `bench/rolling_restarts.py` does 200."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rolling(monkeypatch):
    path = ROOT / "bench" / "rolling_restarts.py"
    spec = importlib.util.spec_from_file_location("rolling_restarts", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.NGINX is None:
        pytest.skip("nginx is not installed")
    pytest.importorskip("uvicorn")
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    return module


def test_four_restarts_under_load_fail_no_request(rolling):
    result = asyncio.run(rolling.roll("hastack", 4, 200.0, 40.0))
    assert result["restarts"] == 4
    assert result["requests"] > 300
    assert result["how"] == {}
    assert result["exit_codes"] == {0: 4}
