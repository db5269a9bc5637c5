"""Every public name of hastack with its signature, one per line, read from the sources.

usage: surface.py [--write]

Nothing is imported: the result is the same on every Python, with and without extras, pure and
compiled. A module is public when no part of its name starts with ``_``; its names are its
``__all__``. Names that a module only re-exports are followed to where they are defined.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
SURFACE = ROOT / "tests" / "api_surface.txt"

# Of the special methods, those that a user's code relies on by its own syntax.
SPOKEN = frozenset(
    (
        "__aenter__",
        "__aexit__",
        "__aiter__",
        "__anext__",
        "__await__",
        "__bool__",
        "__call__",
        "__contains__",
        "__enter__",
        "__exit__",
        "__getitem__",
        "__iter__",
        "__len__",
        "__next__",
    )
)

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def public_modules() -> list[str]:
    """Dotted names of all public modules, sorted."""
    names = []
    for path in (SRC / "hastack").rglob("*.py"):
        parts = path.relative_to(SRC).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if not any(part.startswith("_") for part in parts):
            names.append(".".join(parts))
    # A command's surface is its options; its modules are nobody's to import.
    return sorted(name for name in names if not name.startswith("hastack.cli."))


@cache
def tree(module: str) -> ast.Module:
    """The parsed source of a module."""
    base = SRC.joinpath(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def is_module(name: str) -> bool:
    """Whether a dotted name is a module of the sources."""
    base = SRC.joinpath(*name.split("."))
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a body, those inside ``if`` and ``try`` included."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from statements([*node.body, *node.orelse])
        else:
            yield node


def exported(module: str) -> tuple[str, ...]:
    """A module's ``__all__``; empty when it has none."""
    for node in statements(tree(module).body):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return tuple(ast.literal_eval(node.value))
    return ()


def absolute(module: str, node: ast.ImportFrom) -> str:
    """The module that a ``from ... import`` inside ``module`` means."""
    if not node.level:
        return node.module or ""
    package = module.split(".")
    if not (SRC.joinpath(*package)).is_dir():
        package = package[:-1]
    package = package[: len(package) - (node.level - 1)]
    return ".".join([*package, *([node.module] if node.module else [])])


def find(module: str, name: str) -> tuple[str, list[ast.stmt]]:
    """Where ``name`` of ``module`` is defined, and its definitions (several for overloads)."""
    found: list[ast.stmt] = []
    for node in statements(tree(module).body):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if node.name == name:
                found.append(node)
            case ast.Assign(targets=[ast.Name(id=target)]) if target == name:
                found.append(node)
            case ast.AnnAssign(target=ast.Name(id=target)) if target == name:
                found.append(node)
            case ast.ImportFrom():
                for alias in node.names:
                    if (alias.asname or alias.name) != name:
                        continue
                    home = absolute(module, node)
                    if is_module(f"{home}.{alias.name}"):
                        return f"{home}.{alias.name}", []
                    if is_module(home) and home != module:
                        return find(home, alias.name)
                    return home, []
    return module, found


def signature(node: Function) -> str:
    """Parameters and result as they stand in the source."""
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(node.args)}){result}"


def decorators(node: Function) -> set[str]:
    """Last parts of the decorators' names."""
    return {ast.unparse(d).partition("(")[0].rpartition(".")[2] for d in node.decorator_list}


def function_lines(name: str, nodes: list[Function]) -> Iterator[str]:
    """One line per overload, or one for the function."""
    overloads = [node for node in nodes if "overload" in decorators(node)]
    for node in overloads or nodes[-1:]:
        kinds = decorators(node)
        if "setter" in kinds:
            yield f"property {name} = {ast.unparse(node.args.args[1].annotation or ast.Name('?'))}"
            continue
        if kinds & {"property", "cached_property"}:
            yield f"property {name}{signature(node).partition(')')[2]}"
            continue
        words = [kind for kind in ("classmethod", "staticmethod") if kind in kinds]
        words += ["contextmanager"] if "contextmanager" in kinds else []
        words += ["asynccontextmanager"] if "asynccontextmanager" in kinds else []
        words += ["async"] if isinstance(node, ast.AsyncFunctionDef) else []
        yield " ".join([*words, f"{name}{signature(node)}"])


def members(module: str, node: ast.ClassDef, public: frozenset[str]) -> dict[str, list[str]]:
    """Public members by name, those of private bases included, nearest definition first."""
    found: dict[str, list[Function]] = {}
    lines: dict[str, list[str]] = {}
    for item in statements(node.body):
        match item:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if not item.name.startswith("_") or item.name in SPOKEN | {"__init__"}:
                    found.setdefault(item.name, []).append(item)
            case ast.AnnAssign(target=ast.Name(id=name)) if not name.startswith("_"):
                lines[name] = [f"{name}: {ast.unparse(item.annotation)}"]
            case ast.Assign(targets=[ast.Name(id=name)]) if not name.startswith("_"):
                lines[name] = [f"{name} = {ast.unparse(item.value)}"]
    for name, nodes in found.items():
        lines[name] = list(function_lines(name, nodes))
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0]
        if name in public or not name.isidentifier():
            continue
        home, definitions = find(module, name)
        for definition in definitions:
            if isinstance(definition, ast.ClassDef):
                for key, inherited in members(home, definition, public).items():
                    lines.setdefault(key, inherited)
    return lines


def describe(module: str, name: str, public: frozenset[str]) -> Iterator[str]:
    """The lines of one public name."""
    home, nodes = find(module, name)
    full = f"{module}.{name}"
    if not nodes:
        yield f"{full}: module" if is_module(home) else full
        return
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    last = nodes[-1]
    if functions:
        yield from function_lines(full, functions)
    elif isinstance(last, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in last.bases)
        yield f"class {full}({bases})" if bases else f"class {full}"
        inside = members(home, last, public)
        for key in sorted(inside):
            yield from (f"  {line}" for line in inside[key])
    elif isinstance(last, ast.AnnAssign):
        yield f"{full}: {ast.unparse(last.annotation)}"
    elif isinstance(last, ast.Assign):
        yield f"{full} = {ast.unparse(last.value)}"


def surface() -> str:
    """The whole file."""
    modules = public_modules()
    public = frozenset(name for module in modules for name in exported(module))
    lines = ["# Every public name; `make surface` writes this file, a test compares it."]
    for module in modules:
        lines += ["", f"[{module}]"]
        for name in sorted(exported(module)):
            lines += describe(module, name, public)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        SURFACE.write_text(surface(), encoding="utf-8")
    else:
        sys.stdout.write(surface())
