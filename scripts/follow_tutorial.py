"""Follow docs/tutorial.md to the letter, in an empty folder: write its files, type its commands.

Each command's output is compared with what the page shows (``...`` stands for anything). With
``--installed`` the packages are those of the interpreter that runs this, and the lines that set up
an environment, and the demo at the end, are left out; otherwise a new environment gets hastack from this checkout.

usage: follow_tutorial.py [--installed] [--ports A,B,C,D] [--page FILE]
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tutorial.md"
PORTS = ("8000", "8001", "8002", "9464")  # those of the page
PATIENCE = 300.0  # seconds for one command; it only ends what hangs

_BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_SET_UP = re.compile(r"^(python3 -m venv|\. \.venv|pip install)")
_WHOLE = re.compile(r"^hastack demo")  # has its own test


@dataclass
class Command:
    """What is typed, and what shall come of it."""

    text: str
    line: int
    expected: list[str] = field(default_factory=list)


@dataclass
class File:
    """What the reader saves."""

    name: str
    text: str
    line: int
    emphasized: set[int] = field(default_factory=set)


def steps(page: str) -> list[Command | File]:
    """Files and commands, in the order of the page."""
    found: list[Command | File] = []
    for block in _BLOCK.finditer(page):
        line = page.count("\n", 0, block.start()) + 1
        if block["info"] == "console":
            found += _commands(block["body"], line)
        elif block["info"].startswith("{code-block}"):
            found.append(_file(block["body"], line))
        else:
            raise SystemExit(f"line {line}: a block that nobody follows: {block['info']!r}")
    return found


def _commands(body: str, line: int) -> list[Command]:
    typed: list[Command] = []
    for number, text in enumerate(body.splitlines(), line + 1):
        if text.startswith("$ "):
            typed.append(Command(text[2:], number))
        else:
            typed[-1].expected.append(text)
    return typed


def _file(body: str, line: int) -> File:
    options, _, text = body.partition("\n\n")
    given = dict(each.strip(":").split(": ") for each in options.splitlines())
    marked: set[int] = set()
    for part in filter(None, given.get("emphasize-lines", "").split(", ")):
        first, _, last = part.partition("-")
        marked |= set(range(int(first), int(last or first) + 1))
    return File(given["caption"], text, line, marked)


def changed(before: str, after: str) -> set[int]:
    """Numbers of the lines of ``after`` that are not as in ``before``."""
    old, new = before.splitlines(), after.splitlines()
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    kept = {
        line
        for _, start, size in matcher.get_matching_blocks()
        for line in range(start, start + size)
    }
    return {number + 1 for number, text in enumerate(new) if number not in kept and text.strip()}


def matches(expected: list[str], output: str) -> bool:
    """Whether the output is what the page shows."""
    wanted = ".*?".join(map(re.escape, "\n".join(expected).strip().split("...")))
    printed = "\n".join(line.rstrip() for line in output.strip().splitlines())
    return re.fullmatch(wanted, printed, re.DOTALL) is not None


class Shell:
    """The reader's terminal: one bash, so that variables, folders and jobs stay.

    Args:
        folder: Where it starts.
        environment: Its variables.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that all of it can be ended
        )

    def type(self, command: str) -> str:
        """Run a command; what it printed."""
        bash = self._bash
        assert bash.stdin is not None
        assert bash.stdout is not None
        ended = f"--done-{os.getpid()}--"
        bash.stdin.write(f"{command}\necho; echo {ended}\n")
        bash.stdin.flush()
        watchdog = threading.Timer(PATIENCE, self._end)
        watchdog.start()
        lines: list[str] = []
        try:
            for line in bash.stdout:
                if line.strip() == ended:
                    break
                lines.append(line)
        finally:
            watchdog.cancel()
        return "".join(lines)

    def close(self) -> None:
        """End the shell and whatever it left running."""
        self._end()
        self._bash.communicate()

    def _end(self) -> None:
        try:
            os.killpg(self._bash.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def follow(
    page: str, folder: Path, *, installed: bool, ports: tuple[str, ...] = PORTS, say: bool = False
) -> None:
    """Do what the page says in ``folder``; `SystemExit` at the first difference."""
    renamed = dict(zip(PORTS, ports, strict=True))
    for old, new in renamed.items():
        page = re.sub(rf"\b{old}\b", new, page)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    # What pip has to say of its own version, or of the machine's index, is not the page's.
    environment |= {"PIP_QUIET": "2", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if installed:
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    shell = Shell(folder, environment)
    here = folder
    try:
        for step in steps(page):
            if isinstance(step, File):
                (here / step.name).write_text(step.text, encoding="utf-8")
                continue
            if installed and (_SET_UP.match(step.text) or _WHOLE.match(step.text)):
                continue
            if say:
                print(f"$ {step.text}", flush=True)
            text = re.sub(r"hastack\[", f"{ROOT}[", step.text) if "pip" in step.text else step.text
            output = shell.type(text)
            if "cd shop" in step.text:
                here /= "shop"
            if not matches(step.expected, output):
                logs = "".join(
                    f"\n--- {p.name}\n{p.read_text()[-1500:]}" for p in here.glob("*.log")
                )
                raise SystemExit(
                    f"docs/tutorial.md:{step.line}: $ {step.text}\nexpected:\n"
                    + "\n".join(step.expected)
                    + f"\ngot:\n{output}{logs}"
                )
    finally:
        shell.close()


def main() -> None:
    """Follow the page, and say so."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--installed", action="store_true", help="use this interpreter's packages")
    parser.add_argument("--ports", default=",".join(PORTS), help="in place of those of the page")
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tutorial-"))
    try:
        follow(
            given.page.read_text(encoding="utf-8"),
            folder,
            installed=given.installed,
            ports=tuple(given.ports.split(",")),
            say=True,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("the tutorial holds")


if __name__ == "__main__":
    main()
