"""The pure decision modules, read from the one list without importing hastack.

usage: pure.py cov-flags | files
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def pure_modules() -> tuple[str, ...]:
    """``PURE_MODULES`` of ``src/hastack/_core/_accel.py``."""
    source = (ROOT / "src/hastack/_core/_accel.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PURE_MODULES":
            return tuple(ast.literal_eval(node.value))
    raise SystemExit("PURE_MODULES not found in src/hastack/_core/_accel.py")


def source_file(module: str) -> str:
    """Path of a module's source, relative to the repository."""
    return f"src/{module.replace('.', '/')}.py"


if __name__ == "__main__":
    if sys.argv[1:] == ["cov-flags"]:
        print(" ".join(f"--cov={name}" for name in pure_modules()))
    elif sys.argv[1:] == ["files"]:
        print("\n".join(map(source_file, pure_modules())))
    else:
        raise SystemExit(__doc__)
