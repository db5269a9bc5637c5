"""Extras: what is installed of each, whether it can be imported, and in which versions it was tried."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from hastack.cli._installed import declared, installed, module_of

from ._finding import Finding
from ._tested import TESTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hastack.cli._installed import Need

    from ._looking import Looking

__all__ = ("extras", "import_errors", "is_older")

# Imports are tried in another process: one that crashes must not take the doctor with it.
_TRY = r"""
import importlib, json, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        error = None
    except BaseException as caught:
        error = f"{type(caught).__name__}: {caught}"
    print("\nhastack:", json.dumps([name, error]), flush=True)
"""
_PATIENCE = 60.0  # seconds for all imports; a cold disk is slow


def extras(looking: Looking) -> Iterator[Finding]:
    """One line for each extra."""
    wanted = {name: needs for name, needs in declared().items() if looking.wants("extras", name)}
    present = {
        need.package for needs in wanted.values() for need in needs if installed(need.package)
    }
    errors = import_errors([module_of(each) for each in sorted(present)])
    for name, needs in wanted.items():
        yield _extra(name, needs, errors)


def import_errors(modules: Sequence[str]) -> dict[str, str]:
    """Which of these modules cannot be imported, and what each says."""
    found: dict[str, str] = {}
    left = list(modules)
    while left:
        tried = _attempt(left)
        found.update((name, error) for name, error in tried if error)
        left = left[len(tried) :]
        if left:  # it ended while it was at the next one
            found[left.pop(0)] = "the interpreter ends while it is imported"
    return found


def _attempt(modules: Sequence[str]) -> list[tuple[str, str | None]]:
    command = [sys.executable, "-c", _TRY, *modules]
    try:
        done = subprocess.run(  # noqa: S603  # this interpreter, with our own program
            command, capture_output=True, timeout=_PATIENCE, check=False
        )
        out = done.stdout
    except subprocess.TimeoutExpired as late:
        out = late.stdout or b""
    parts = (line.partition("hastack: ") for line in out.decode("utf-8", "replace").splitlines())
    return [tuple(json.loads(row)) for before, mark, row in parts if mark and not before]


def _extra(name: str, needs: tuple[Need, ...], errors: dict[str, str]) -> Finding:
    versions = {need.package: installed(need.package) for need in needs}
    absent = [package for package, version in versions.items() if version is None]
    old = [n for n in needs if (v := versions[n.package]) is not None and is_older(v, n.minimum)]
    failing = [n for n in needs if module_of(n.package) in errors]
    facts = {
        "packages": versions,
        "requires": [need.spelled for need in needs],
        "tested": {n.package: list(TESTED[n.package]) for n in needs if n.package in TESTED},
    }
    install = f"pip install 'hastack[{name}]'"
    present = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
    if failing:
        says = "; ".join(f"{n.package}: {errors[module_of(n.package)]}" for n in failing)
        again = " ".join(n.package for n in failing)
        return Finding(
            section="extras",
            name=name,
            status="broken",
            says=f"cannot be imported: {says}",
            fix=f"pip install --force-reinstall {again}",
            facts=facts,
        )
    if old:
        says = ", ".join(f"{n.package} {versions[n.package]} (needs {n.spelled})" for n in old)
        return Finding(
            section="extras",
            name=name,
            # What nobody asked for may be old: it came for another reason.
            status="missing" if absent else "broken",
            says=f"too old: {says}",
            fix=f"pip install --upgrade 'hastack[{name}]'",
            facts=facts,
        )
    if absent:
        also = f" ({present} is there)" if present else ""
        says = f"not installed: {', '.join(absent)}{also}"
        return Finding(
            section="extras", name=name, status="missing", says=says, fix=install, facts=facts
        )
    notes = tuple(
        f"{package} {version} is newer than what was tested ({' to '.join(TESTED[package])})"
        for package, version in versions.items()
        if version and package in TESTED and is_older(TESTED[package][1], version)
    )
    return Finding(section="extras", name=name, says=present, notes=notes, facts=facts)


def is_older(version: str, than: str) -> bool:
    """Compare the numbers of a release; what follows them is not looked at."""
    return _numbers(version) < _numbers(than)


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", version)[0])[:3]]
    return (*numbers, *[0] * (3 - len(numbers)))
