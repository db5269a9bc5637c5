"""Build a wheel into dist/, with a libbpf in it when one is supplied.

usage: bundled_wheel.py [--libbpf FILE --licence FILE ...]

With a libbpf the wheel is for this kind of machine only, and says so in its name. A bundled one is
found before the system's. It is the builder's choice and responsibility: what libbpf itself links to
(libelf, libz, a libc no older than the builder's) must be on the machines that the wheel goes to, and
the licences of what is bundled (LGPL-2.1 or BSD-2-Clause for libbpf) must go with it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "src" / "hastack" / "ebpf" / "_bundled"


def main() -> None:
    """Bundle what was supplied, build, and take it out of the tree again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--libbpf", type=Path, help="the shared library, libbpf.so.1.x.y")
    parser.add_argument("--licence", type=Path, action="append", default=[], help="its licences")
    given = parser.parse_args()
    if given.libbpf is not None and not given.licence:
        parser.error("--libbpf takes --licence: what is bundled is passed on under its licence")
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "-w", "dist"]
    if given.libbpf is not None:
        # Without it the name would say "any", and the wheel would be installed on every machine.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        command.append(f"--config-settings=--build-option=--plat-name={platform}")
    clear()
    try:
        if given.libbpf is not None:
            BUNDLE.mkdir()
            shutil.copyfile(given.libbpf.resolve(), BUNDLE / "libbpf.so.1")
            for path in given.licence:
                shutil.copy(path, BUNDLE)
        subprocess.run(command, cwd=ROOT, check=True)
    finally:
        clear()


def clear() -> None:
    """Leave nothing that the next wheel would take up: builds copy what an older one has left."""
    for folder in (BUNDLE, ROOT / "build"):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
