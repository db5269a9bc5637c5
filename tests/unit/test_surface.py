"""The public surface is a reviewed file, and every public name is really there."""

from __future__ import annotations

import difflib
import importlib
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "surface.py"))
MODULES = SCRIPT["public_modules"]()


def test_surface_is_the_reviewed_one() -> None:
    reviewed = (ROOT / "tests" / "api_surface.txt").read_text(encoding="utf-8")
    current = SCRIPT["surface"]()
    changes = difflib.unified_diff(
        reviewed.splitlines(), current.splitlines(), "reviewed", "current", lineterm="", n=1
    )
    text = "\n".join(changes)
    assert not text, f"the public surface changed; if that is meant, run `make surface`\n{text}"


@pytest.mark.parametrize("name", MODULES)
def test_all_is_a_sorted_tuple_of_names_that_exist(name: str) -> None:
    module = importlib.import_module(name)
    names = getattr(module, "__all__", None)
    if name.startswith("hastack.contrib") and names is None:
        return  # the package itself holds nothing
    assert isinstance(names, tuple), name
    assert list(names) == sorted(set(names)), name
    for public in names:
        assert not public.startswith("_") or public == "__version__", public
        getattr(module, public)
    assert set(names) <= set(dir(module))


def test_lazy_names_and_their_homes_agree() -> None:
    from hastack import ratelimit

    assert set(ratelimit._HOMES) == set(ratelimit.__all__)
    for name, home in ratelimit._HOMES.items():
        module = importlib.import_module(f"hastack.ratelimit.{home}")
        assert getattr(module, name) is getattr(ratelimit, name), name


@pytest.mark.parametrize("name", ["hastack", "hastack.ratelimit"])
def test_unknown_names_are_attribute_errors(name: str) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_this_name'"):
        getattr(importlib.import_module(name), "nothing_of_this_name")  # noqa: B009
