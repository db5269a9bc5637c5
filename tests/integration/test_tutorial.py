"""docs/tutorial.md, followed to the letter."""

from __future__ import annotations

import contextlib
import os
import runpy
import shutil
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = runpy.run_path(str(ROOT / "scripts/follow_tutorial.py"))
PAGE = TUTORIAL["PAGE"].read_text(encoding="utf-8")


def own_ports(count: int) -> tuple[str, ...]:
    """Free ports below those that the system and other tests give out, and apart for each process.

    The tutorial names its ports, and starts programs on them again and again.
    """
    first = 10_000 + os.getpid() % 600 * 10
    while True:
        wanted = range(first, first + count)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in wanted:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            return tuple(map(str, wanted))
        first = 10_000 + (first - 10_000 + 10) % 6_000


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.timeout(300)
def test_the_tutorial_holds(tmp_path: Path) -> None:
    ports = own_ports(len(TUTORIAL["PORTS"]))
    TUTORIAL["follow"](PAGE, tmp_path, installed=True, ports=ports)


def test_what_is_emphasized_is_what_changed() -> None:
    before: dict[str, str] = {}
    for step in TUTORIAL["steps"](PAGE):
        if isinstance(step, TUTORIAL["File"]):
            if step.name in before:
                assert step.emphasized == TUTORIAL["changed"](before[step.name], step.text), (
                    step.name
                )
            before[step.name] = step.text


def test_output_is_compared_with_what_the_page_shows() -> None:
    matches = TUTORIAL["matches"]
    assert matches(["ready: ..."], "ready: pass\n\n")
    assert matches([], "\n")
    assert not matches([], "Traceback")
    assert not matches(["200 200 429"], "200 200 200")
