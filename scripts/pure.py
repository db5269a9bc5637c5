"""The pure decision modules, read from the one list without importing hastack.

usage: pure.py cov-flags
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def modules(name: str) -> tuple[str, ...]:
    """``COMPILED_MODULES`` or ``PURE_MODULES`` of ``src/hastack/_core/_accel.py``."""
    path = ROOT / "src/hastack/_core/_accel.py"
    scope: dict[str, tuple[str, ...]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith("_MODULES"):
            exec(ast.unparse(node), scope)  # noqa: S102  # the second list includes the first
    return scope[name]


def source_file(module: str) -> str:
    """Path of a module's source, relative to the repository."""
    return f"src/{module.replace('.', '/')}.py"


if __name__ == "__main__":
    if sys.argv[1:] == ["cov-flags"]:
        print(" ".join(f"--cov={name}" for name in modules("PURE_MODULES")))
    else:
        raise SystemExit(__doc__)
