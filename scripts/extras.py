"""Install the wheel into a clean environment for each extra, run it there, and write down what came of it.

usage: extras.py [EXTRA ...] [--lowest] [--write] [--rounds N]

For each extra (``base`` is none, ``compiled`` is base built with HASTACK_COMPILE=1): installs the wheel with
that extra, imports every module of hastack that names it, runs its smoke program
(scripts/extras_smoke.py), and measures sizes and imports. With --lowest each is done once more with
the oldest versions that pyproject.toml promises. --write brings docs/extras.md and the versions that
``hastack doctor`` calls tested up to date, extra by extra. Exit status 1 when anything failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

from extras_modules import importable, modules
from extras_tables import write

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
ALL = ("base", *EXTRAS, "compiled")
SMOKE = ROOT / "scripts" / "extras_smoke.py"
PATIENCE = 600.0  # seconds for one program

# What is imported to use an extra whose modules are not named after it. After a colon stands what
# is looked up in it, where that is what brings the rest.
FEATURES = {
    "base": (
        *("hastack.context", "hastack.config", "hastack.lifecycle", "hastack.health"),
        *("hastack.ratelimit", "hastack.discovery:connect", "hastack.observe"),
    ),
    "cli": ("hastack.cli._app", "hastack.cli._doctor"),
    "web": ("hastack.contrib.asgi",),
    "etcd": ("hastack.discovery.etcd:Client",),
    "otel": ("hastack.observe:install",),
    "logs": ("hastack.observe.logs:parse",),
    "ebpf": ("hastack.ebpf:load",),
    "wasm": ("hastack.wasm:load",),
}

# What is installed there: name, version, bytes on disk.
LIST = """
import importlib.metadata as m, json, os
found = {}
for each in m.distributions():
    size = sum(p.stat().st_size for f in each.files or () if (p := f.locate()).is_file())
    found[each.metadata["Name"].lower()] = [each.version, size]
print(json.dumps(found))
"""
IMPORT = """
import json, sys, time
before = set(sys.modules)
start = time.process_time()
for name in sys.argv[1:]:
    module, _, attribute = name.partition(":")
    __import__(module)
    if attribute:
        getattr(sys.modules[module], attribute)
print(json.dumps([(time.process_time() - start) * 1e3, len(set(sys.modules) - before)]))
"""


def main() -> None:
    """Everything that was asked for, to the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="all unless given")
    parser.add_argument("--lowest", action="store_true", help="with the oldest versions as well")
    parser.add_argument("--write", action="store_true", help="bring the documentation up to date")
    parser.add_argument("--rounds", type=int, default=9, help="fresh interpreters per import")
    given = parser.parse_args()
    unknown = set(given.extras) - set(ALL)
    if unknown:
        parser.error(f"no extra {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="hastack-extras-") as folder:
        wheels = {"compiled": None, "pure": build(Path(folder), compiled=False)}
        for extra in given.extras or ALL:
            kind = "compiled" if extra == "compiled" else "pure"
            wheel = wheels[kind] or build(Path(folder), compiled=True)
            results[extra] = look(extra, wheel, Path(folder), given.rounds)
            report(extra, results[extra])
            if given.lowest and extra not in {"all", "compiled"}:
                results[extra]["lowest"] = look(extra, wheel, Path(folder), 0, lowest=True)
                report(f"{extra}, oldest", results[extra]["lowest"])
            if given.write:  # now, as the rest takes minutes
                write(ROOT, results)
    failed = [
        name
        for name, found in results.items()
        if found["problems"] or found.get("lowest", {}).get("problems")
    ]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def build(folder: Path, *, compiled: bool) -> Path:
    """A wheel of the sources as they are."""
    out = folder / ("compiled" if compiled else "pure")
    environment = {**os.environ, "HASTACK_COMPILE": "1" if compiled else "0"}
    command = [sys.executable, "-m", "pip", "wheel", "-qq", ".", "--no-deps", "-w", str(out)]
    try:
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    finally:
        shutil.rmtree(ROOT / "build", ignore_errors=True)  # the next build would take it up
    return next(out.glob("*.whl"))


def look(
    extra: str, wheel: Path, folder: Path, rounds: int, *, lowest: bool = False
) -> dict[str, Any]:
    """What one environment is like; problems are in it, not raised."""
    place = folder / f"{extra}{'-oldest' if lowest else ''}"
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    found: dict[str, Any] = {"problems": [], "packages": {}, "imports": {}, "features": {}}
    found["needs"] = [name.lower() for name in bounds(extra) if extra in {"base", *EXTRAS}]
    target = f"hastack[{extra}] @ {wheel.as_uri()}" if extra in EXTRAS else wheel.as_uri()
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-qq", target]
    if lowest:
        oldest = {**bounds("base"), **bounds(extra)}
        pip += [f"{package}=={version}" for package, version in oldest.items()]
    if not attempt(found, "install", pip):
        return found
    found["packages"] = json.loads(output(python, "-c", LIST))
    needing = modules_of(extra)
    attempt(found, "import", [python, "-c", IMPORT, *needing])
    attempt(found, "smoke", [python, SMOKE, extra], cwd=place)
    if extra in {"cli", "all"}:
        attempt(found, "doctor", [place / "bin" / "hastack", "doctor", "extras.cli"], cwd=place)
    if rounds:
        shown = ["hastack", *packages_of(extra)]
        found["imports"] = {name: measure(python, name, rounds) for name in shown}
        features = [*FEATURES.get(extra, ()), *needing]
        found["features"] = {name: measure(python, name, rounds) for name in features}
    shutil.rmtree(place)
    return found


def attempt(found: dict[str, Any], what: str, command: list[Any], **options: Any) -> bool:
    """Run a program; what it said is a problem when it failed."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "HASTACK_COMPILE"}},
        **options,
    )
    if done.returncode:
        found["problems"].append(f"{what}: {(done.stderr or done.stdout)[-1500:]}")
    return not done.returncode


def output(python: Path, *arguments: str) -> str:
    """What a program prints."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [str(python), *arguments]
    return subprocess.check_output(command, text=True, timeout=PATIENCE, env=environment)


def measure(python: Path, module: str, rounds: int) -> tuple[float, int]:
    """Median milliseconds of processor time in fresh interpreters, and how many modules come in.

    Of the processor, because a clock on the wall measures what else the machine does.
    """
    output(python, "-c", IMPORT, module)  # writes the bytecode
    taken = [json.loads(output(python, "-c", IMPORT, module)) for _ in range(rounds)]
    return statistics.median(each[0] for each in taken), taken[-1][1]


def bounds(extra: str) -> dict[str, str]:
    """The oldest version of each package that this extra, or the base install, promises to take."""
    found = {}
    for line in PROJECT["dependencies"] if extra == "base" else EXTRAS.get(extra, ()):
        package, _, oldest = line.partition(";")[0].strip().partition(">=")
        if not package.startswith("hastack["):
            found[package] = oldest
    return found


def modules_of(extra: str) -> list[str]:
    """The modules of hastack that name this extra where they import a package."""
    return modules(ROOT / "src").get(extra, []) if extra != "all" else []


def packages_of(extra: str) -> list[str]:
    """What to import to see what the packages of an extra cost by themselves."""
    return [importable(line) for line in EXTRAS.get(extra, ()) if not line.startswith("hastack[")]


def report(name: str, found: dict[str, Any]) -> None:
    """One line for whoever waits, and what went wrong."""
    size = sum(each[1] for each in found["packages"].values()) / 1e6
    state = "failed" if found["problems"] else "ok"
    print(f"{name:24} {state:7} {len(found['packages'])} packages, {size:.1f} MB", flush=True)
    for problem in found["problems"]:
        print(f"  {problem}", flush=True)


if __name__ == "__main__":
    main()
