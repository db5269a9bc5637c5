"""Run the tests on every supported Python of this machine, and once on a compiled build.

usage: test_all.py [pytest arguments]

Each interpreter has its own environment, ``.venv-<version>``; the compiled build has
``.venv-compiled``, with hastack installed in it, not linked to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bootstrap import ROOT, SUPPORTED, need_debian, say

COMPILED = ".venv-compiled"


def interpreters() -> dict[str, str]:
    """The newest working interpreter of each supported version: PATH, /usr/bin, pyenv."""
    found: dict[str, str] = {}
    pyenv = Path.home() / ".pyenv" / "versions"
    for version in SUPPORTED:
        candidates = [
            *(str(p) for p in sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)),
            shutil.which(f"python{version}") or "",
            f"/usr/bin/python{version}",
        ]
        for path in candidates:
            if path and Path(path).exists() and works(path, version):
                found[version] = path
                break
    return found


def works(python: str, version: str) -> bool:
    """Whether this really is that version (version managers leave stubs) and can make a venv."""
    code = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def environment(python: str, venv: str, *options: str, **variables: str) -> None:
    """Set an environment up; nothing happens when it is current."""
    command = [python, "scripts/bootstrap.py", "--venv", venv, "--extras", "all"]
    subprocess.run(
        [*command, "--groups", "test", *options],
        cwd=ROOT,
        env={**os.environ, **variables},
        check=True,
    )


def tests(venv: str, *arguments: str, expect: str) -> int:
    """The tests alone; documentation and coverage are `make test`'s business."""
    python = str(ROOT / venv / "bin/python")
    check = (
        "import sys; from hastack._core._accel import report; kinds = set(report().values());"
        f"sys.exit(None if kinds == {{{expect!r}}} else f'expected a {expect} build: {{report()}}')"
    )
    status = subprocess.run([python, "-c", check], cwd="/", check=False).returncode
    if status:
        return status
    workers = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "--max-worker-restart=0"]
    options = ["-q", "-p", "no:cacheprovider", *workers]
    command = [python, "-m", "pytest", *options, "tests", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def main() -> None:
    """Everything, to the end; the exit status says whether all passed."""
    need_debian(
        [
            *("nginx", "gcc", "etcd-server", "etcd-client", "prometheus", "clang", "lld", "wabt"),
            *("libbpf-dev", "iproute2", "postgresql", "chromium", "curl"),
        ]
    )
    pythons = interpreters()
    if not pythons:
        raise SystemExit(f"hastack: no Python of {', '.join(SUPPORTED)} found")
    results: dict[str, int] = {}
    for version, python in pythons.items():
        say(f"Python {version}: {python}")
        environment(python, f".venv-{version}")
        results[version] = tests(f".venv-{version}", *sys.argv[1:], expect="pure")
    newest = next(reversed(pythons))
    if shutil.which("gcc"):
        say(f"compiled build, Python {newest}")
        environment(pythons[newest], COMPILED, "--no-editable", HASTACK_COMPILE="1")
        results["compiled"] = tests(COMPILED, *sys.argv[1:], expect="compiled")
    say(", ".join(f"{name} {'failed' if status else 'passed'}" for name, status in results.items()))
    raise SystemExit(any(results.values()))


if __name__ == "__main__":
    main()
