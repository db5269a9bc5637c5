"""Other packages that speak etcd or carry its messages, installed apart from everything else.

They go into a directory of their own below the environment, once per list of packages, since they
overwrite each other's files and those of packages that hastack uses. A process that wants them
puts that directory on its path.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class NoPeers(Exception):
    """They could not be installed; the message is pip's."""


def directory() -> Path:
    """Where the peers are, installed first if they are not there yet.

    Raises:
        NoPeers: pip could not install them, for want of a network for example.
    """
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    whole, bare = groups["peers"], groups["peers-bare"]
    name = hashlib.sha256(repr((sys.version_info[:2], whole, bare)).encode()).hexdigest()[:12]
    home = Path(sys.prefix) / "hastack-peers"
    if not os.access(sys.prefix, os.W_OK):
        home = Path(tempfile.gettempdir()) / f"hastack-peers-{os.getuid()}"
    target = home / name
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            scratch = Path(tempfile.mkdtemp(dir=home))
            try:
                _install(scratch, whole)
                _install(scratch, ["--no-deps", "--upgrade", *bare])
                scratch.chmod(0o755)
                scratch.rename(target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return target


def _install(target: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "install", "-qq", "--target", str(target), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        raise NoPeers(done.stderr[-2000:])


if __name__ == "__main__":
    print(directory())
