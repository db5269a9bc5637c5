"""Build a wheel into dist/, with a libbpf in it when one is supplied.

usage: wheel.py [--libbpf FILE --licence FILE ...]

A bundled libbpf is found before the system's. It is the builder's choice and responsibility: what
libbpf itself links to (libelf, libz) must be on the machines that the wheel goes to, and the licences
of what is bundled (LGPL-2.1 or BSD-2-Clause for libbpf) must go with it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
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
    shutil.rmtree(BUNDLE, ignore_errors=True)
    try:
        if given.libbpf is not None:
            BUNDLE.mkdir()
            shutil.copyfile(given.libbpf.resolve(), BUNDLE / "libbpf.so.1")
            for path in given.licence:
                shutil.copy(path, BUNDLE)
        command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "-w", "dist"]
        subprocess.run(command, cwd=ROOT, check=True)
    finally:
        shutil.rmtree(BUNDLE, ignore_errors=True)


if __name__ == "__main__":
    main()
