"""The repository keeps the promises that its tools rely on."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hastack._core import _accel

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_pure_module_exists_and_is_listed_once() -> None:
    assert list(_accel.COMPILED_MODULES) == sorted(_accel.COMPILED_MODULES)
    assert len(_accel.PURE_MODULES) == len(set(_accel.PURE_MODULES))
    for module in _accel.PURE_MODULES:
        assert (ROOT / "src" / f"{module.replace('.', '/')}.py").is_file(), module


def test_the_build_reads_the_same_list() -> None:
    script = [sys.executable, str(ROOT / "scripts/pure.py"), "cov-flags"]
    flags = subprocess.run(script, capture_output=True, text=True, check=True).stdout.split()
    assert flags == [f"--cov={module}" for module in _accel.PURE_MODULES]


def test_every_ruff_ignore_is_explained() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.partition("\nignore = [\n")[2].partition("\n]")[0]
    assert block
    for line in block.splitlines():
        assert "#" in line, line


def test_no_import_contract_is_switched_off() -> None:
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    assert contracts
    assert not [c["name"] for c in contracts if "ignore_imports" in c]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_between_files_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8")):
        assert "://" in target or (ROOT / target).exists(), target


def test_the_picture_of_the_layers_is_the_contract() -> None:
    draw = runpy.run_path(str(ROOT / "scripts/draw_layers.py"))
    assert draw["PICTURE"].read_text(encoding="utf-8") == draw["picture"]()


def test_every_public_module_has_its_place_in_the_reference() -> None:
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs/reference").glob("*.md"))
    public = runpy.run_path(str(ROOT / "scripts/surface.py"))["public_modules"]()
    for module in set(public) - {"hastack", "hastack.cli", "hastack.contrib"}:
        assert f".. automodule:: {module}\n" in pages, module
