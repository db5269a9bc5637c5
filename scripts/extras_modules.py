"""Which modules of hastack ask for which extra, read from their sources."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

__all__ = ("importable", "modules", "requirements")


def requirements(src: Path) -> list[tuple[str, str, str]]:
    """Each ``require(module, extra=...)``: where it stands, what it imports, and the extra."""
    found = []
    for path in sorted((src / "hastack").rglob("*.py")):
        if path.name == "_extras.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ("require", "require_grpc")
            ):
                module = ast.literal_eval(node.args[0]) if node.args else "grpc"
                extra = next(ast.literal_eval(k.value) for k in node.keywords if k.arg == "extra")
                found.append((_name(path.relative_to(src)), module, extra))
    return found


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(src: Path) -> dict[str, list[str]]:
    """For each extra, the public modules whose import takes it."""
    found: dict[str, list[str]] = {}
    for where, _, extra in requirements(src):
        public = not any(part.startswith("_") for part in where.split(".")[1:])
        if public and where not in found.setdefault(extra, []):
            found[extra].append(where)
    return found


def importable(requirement: str) -> str:
    """The module that a requirement brings, as ``hastack doctor`` knows it."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
    from hastack.cli._installed import Need, module_of

    need = Need.of(requirement)
    return module_of(need.package) if need is not None else "sys"
