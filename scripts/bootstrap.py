"""Make the virtual environment that the Makefile targets run in, and keep it current.

usage: bootstrap.py --venv DIR [--extras a,b] [--groups a,b] [--no-editable]
       bootstrap.py --debian a,b

Standard library only; runs on whatever ``python3`` is, to say clearly what is missing. A stamp in
the environment holds a hash of everything an install depends on, so that a second run only reads
two small files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
# What a Debian package provides: it is missing when none of these can be found.
PROVIDES = {
    "nginx": ("nginx", "/usr/sbin/nginx"),
    "etcd-server": ("etcd", "/usr/bin/etcd"),
    "etcd-client": ("etcdctl", "/usr/bin/etcdctl"),
    "prometheus": ("prometheus", "/usr/bin/prometheus"),
    "clang": ("clang", "/usr/bin/clang"),
    "lld": ("wasm-ld", "/usr/bin/wasm-ld"),
    "wabt": ("wat2wasm", "/usr/bin/wat2wasm"),
    "libbpf-dev": ("/usr/include/bpf/bpf_helpers.h",),
    "iproute2": ("ip", "/usr/sbin/ip"),
    "curl": ("curl", "/usr/bin/curl"),
    "postgresql": ("initdb", *(f"/usr/lib/postgresql/{n}/bin/initdb" for n in range(13, 20))),
    "chromium": ("chromium", "/usr/bin/chromium"),
    "gcc": ("gcc", "/usr/bin/gcc"),
    "python3-venv": (),
    "python3-dev": (),
}


def say(text: str) -> None:
    """One line to the person who typed ``make``; standard error keeps pipes clean."""
    print(f"hastack: {text}", file=sys.stderr, flush=True)


def run(*command: str | Path) -> None:
    """Run a command with its standard output on our standard error, or end with its status."""
    done = subprocess.run([str(part) for part in command], stdout=sys.stderr, cwd=ROOT, check=False)
    if done.returncode:
        say(f"failed: {' '.join(map(str, command))}")
        raise SystemExit(done.returncode)


def may_use_apt() -> bool:
    """Installing system packages takes root and apt; HASTACK_APT=0 forbids it."""
    return (
        os.environ.get("HASTACK_APT", "1") != "0"
        and os.geteuid() == 0
        and shutil.which("apt-get") is not None
    )


def apt_install(*packages: str) -> bool:
    """Install Debian packages without starting the services they bring."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
        policy.chmod(0o755)
    try:
        for command in (
            ["apt-get", "update", "-q"],
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages],
        ):
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=600,
            )
        if done.returncode:
            say(f"apt-get failed:\n{done.stdout}")
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        if ours:
            policy.unlink(missing_ok=True)


def is_there(name: str) -> bool:
    """Whether a program, or a file with that path, can be found."""
    return shutil.which(name) is not None or (name.startswith("/") and Path(name).is_file())


def need_debian(packages: list[str]) -> None:
    """See that Debian packages are there, or say which tests will skip for want of them."""
    missing = [p for p in packages if not any(map(is_there, PROVIDES[p]))]
    if not missing:
        return
    names = " ".join(missing)
    if may_use_apt():
        say(f"installing Debian packages: {names}")
        if apt_install(*missing):
            return
    say(f"not found: {names}. What needs it is skipped; to run it: sudo apt-get install {names}")


def supported_python() -> str:
    """An interpreter that hastack supports: this one, or another on the PATH."""
    if sys.version_info >= (3, 11):  # noqa: UP036  # this file meets older ones, to say so
        return sys.executable
    for version in reversed(SUPPORTED):
        found = shutil.which(f"python{version}")
        if found and not subprocess.run([found, "-c", ""], check=False).returncode:
            return found
    say(f"needs Python {SUPPORTED[0]} or newer; python3 is {sys.version.split()[0]}")
    raise SystemExit(2)


def create(venv: Path) -> None:
    """An empty environment with a pip that knows dependency groups."""
    python = supported_python()
    probe = [python, "-c", "import ensurepip, venv"]
    able = not subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode
    if not able and not (may_use_apt() and apt_install("python3-venv")):
        say("python3 cannot make virtual environments: sudo apt-get install python3-venv")
        raise SystemExit(2)
    shutil.rmtree(venv, ignore_errors=True)
    run(python, "-m", "venv", venv)
    run(venv / "bin/python", "-m", "pip", "install", "-qq", "-U", "pip>=25.1")


def fingerprint(*names: str | Path) -> str:
    """Changes whenever this interpreter, this place, or one of these files does."""
    compiled = os.environ.get("HASTACK_COMPILE", "0")
    digest = hashlib.sha256(f"{ROOT} {sys.executable} {sys.version} {compiled}".encode())
    for name in names:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def install(venv: Path, extras: set[str], groups: set[str], *, editable: bool, again: bool) -> None:
    """Install hastack with what was asked for; a build of its own starts from nothing."""
    target = f".[{','.join(sorted(extras))}]" if extras else "."
    how = ["-e"] if editable else []
    if not editable:
        shutil.rmtree(ROOT / "build", ignore_errors=True)
    chosen = [part for group in sorted(groups) for part in ("--group", group)]
    pip = [venv / "bin/python", "-m", "pip", "install", "-qq"]
    run(*pip, *how, target, *chosen)
    if again and not editable:  # pip leaves an installed version alone, changed or not
        run(*pip, "--no-deps", "--force-reinstall", ".")


def main() -> None:
    """Bring the environment up to what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path)
    parser.add_argument("--extras", default="")
    parser.add_argument("--groups", default="")
    parser.add_argument("--no-editable", action="store_true")
    parser.add_argument("--debian", default="")
    options = parser.parse_args()
    need_debian([name for name in options.debian.split(",") if name])
    if options.venv is None:
        return

    venv = ROOT / options.venv
    extras = {name for name in options.extras.split(",") if name}
    groups = {name for name in options.groups.split(",") if name}
    stamp = venv / "hastack-stamp.json"
    key = fingerprint("pyproject.toml", "setup.py", "scripts/bootstrap.py")
    sources = fingerprint(*sorted((ROOT / "src").rglob("*.py"))) if options.no_editable else ""
    try:
        have = json.loads(stamp.read_text(encoding="ascii"))
    except (OSError, ValueError):
        have = {}
    if have.get("key") == key:
        enough = "all" in have["extras"] or extras <= set(have["extras"])
        if enough and groups <= set(have["groups"]) and sources == have["sources"]:
            return
        extras |= set(have["extras"])
        groups |= set(have["groups"])

    say(f"setting up {options.venv} (later runs start at once)")
    again = have.get("key") == key
    if not again:
        create(venv)
    install(venv, extras, groups, editable=not options.no_editable, again=again)
    have = {"key": key, "sources": sources, "extras": sorted(extras), "groups": sorted(groups)}
    stamp.write_text(json.dumps(have), encoding="ascii")


if __name__ == "__main__":
    main()
