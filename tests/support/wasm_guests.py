"""Guests for tests, built from the sources under tests/guests by clang, lld and wabt."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from hastack import wasm

SOURCES = Path(__file__).resolve().parents[1] / "guests"

LONG = wasm.Limits(deadline=20.0)
"""For tests about something else than time: other people's load must not end a guest."""


@functools.cache
def guest(name: str) -> bytes:
    """The module built from ``name`` (``kit.c``, ``loop.wat``)."""
    source = SOURCES / name
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "guest.wasm"
        if source.suffix == ".wat":
            need("wat2wasm")
            run("wat2wasm", "--enable-multi-memory", source, "-o", built)
        else:
            need("clang", "wasm-ld")
            run(
                *("clang", "--target=wasm32", "-O2", "-nostdlib", "-mbulk-memory"),
                *("-Wl,--no-entry", "-Wl,--strip-all", "-o", built, source),
            )
        return built.read_bytes()


def need(*programs: str) -> None:
    """Skip where a program of the tool chain is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def run(*command: str | Path) -> None:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
