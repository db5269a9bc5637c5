"""What importing hastack brings in, and what a missing package says."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from hastack._core._accel import PURE_MODULES

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
SOURCES = sorted((SRC / "hastack").rglob("*.py"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
OURS = {"hastack", "hastack__mypyc"}  # the second holds what is compiled
BASE = {"attr", "attrs", "cattr", "cattrs"}
# Import names that differ from the name of their package.
PACKAGES = {
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "google": "protobuf",
    "opentelemetry": "opentelemetry-sdk",
    "backports": "backports.zstd",
    "compression": "backports.zstd",  # what Python has since 3.14
}
IMPURE = {"asyncio", "threading", "time", "socket", "select", "selectors", "subprocess", "queue"}


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that can run: what only checkers read is left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from runtime_nodes(other)
            continue
        yield child
        yield from runtime_nodes(child)


@cache
def imports(module: str) -> frozenset[str]:
    """Absolute names of all modules that the code of ``module`` imports at any time."""
    base = SRC.joinpath(*module.split("."))
    package = (base / "__init__.py").is_file()
    path = base / "__init__.py" if package else base.with_suffix(".py")
    found: set[str] = set()
    for node in runtime_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + package]
                home = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                deeper = f"{home}.{alias.name}"
                found.add(deeper if is_ours(deeper) else home)
    return frozenset(found)


def is_ours(name: str) -> bool:
    base = SRC.joinpath(*name.split("."))
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


def run(code: str) -> str:
    script = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# What `import hastack` and every module of the base install sees when nothing else is installed.
BARE = f"""
    import sys
    allowed = set(sys.stdlib_module_names) | {BASE | OURS | {"typing_extensions"}!r}
    for name in [n for n in sys.modules if n.partition(".")[0] not in allowed | {{"__main__"}}]:
        del sys.modules[name]  # whatever the site put there
    class Nothing:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] not in allowed:
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
    sys.meta_path.insert(0, Nothing())
"""


def test_import_hastack_brings_no_third_party_module_and_no_asyncio() -> None:
    new = json.loads(
        run("""
        import json, sys
        before = set(sys.modules)
        import hastack
        print(json.dumps(sorted(set(sys.modules) - before)))
        """)
    )
    tops = {name.partition(".")[0] for name in new}
    assert "hastack" in tops
    assert not tops - OURS - set(sys.stdlib_module_names)
    assert not tops & {"asyncio", "threading", "logging", "importlib.metadata"}


def test_a_guard_needs_no_asyncio_until_it_is_used_with_it() -> None:
    loaded = run("""
        import sys
        from hastack import ratelimit
        ratelimit.TokenBucket("10/s").try_acquire()
        print("asyncio" in sys.modules)
        """)
    assert loaded.strip() == "False"


# Importing these is the opt-in: they are made of another package's classes.
OPT_IN = (
    "hastack.contrib.",
    "hastack.cli.",
    "hastack.observe.logs.combinators",
    "hastack.observe.logs.formats._",
    "hastack.observe.logs.grok",
    "hastack.observe.logs._grok",
)


def test_the_base_install_is_enough_for_everything_that_is_no_opt_in() -> None:
    names = [
        name
        for name in map(module_name, SOURCES)
        if not name.startswith(OPT_IN) and not name.endswith("__main__")
    ]
    run(BARE + f"    import importlib\n    for name in {names!r}: importlib.import_module(name)")


def is_package(name: str) -> bool:
    return SRC.joinpath(*name.split(".")).is_dir()


PACKAGES_OF_THEIR_OWN = [
    name
    for name in map(module_name, SOURCES)
    if not any(part.startswith("_") for part in name.split(".")[1:]) and not name.startswith(OPT_IN)
]


def test_a_module_of_the_base_install_brings_nothing_even_where_it_is_installed() -> None:
    """Each public module in an interpreter of its own: what is there must not be taken either."""
    code = """
        import importlib, json, os, sys
        before = set(sys.modules)
        for name in {names!r}:
            read, write = os.pipe()
            if not os.fork():  # each begins where this interpreter began
                importlib.import_module(name)
                tops = sorted({{each.partition(".")[0] for each in set(sys.modules) - before}})
                os.write(write, json.dumps([name, tops]).encode())
                os._exit(0)
            os.close(write)
            with os.fdopen(read) as answer:
                print(answer.read())
            os.wait()
        """
    found = run(textwrap.dedent(code).format(names=PACKAGES_OF_THEIR_OWN))
    answers = dict(json.loads(line) for line in found.splitlines())
    assert set(answers) == set(PACKAGES_OF_THEIR_OWN)
    allowed = set(sys.stdlib_module_names) | OURS | BASE | {"typing_extensions"}
    taken = {name: set(tops) - allowed for name, tops in answers.items()}
    assert not {name: tops for name, tops in taken.items() if tops}


def test_what_reads_no_configuration_does_without_cattrs() -> None:
    names = ("hastack.config", "hastack.lifecycle", "hastack.observe", "hastack.discovery.registry")
    assert run(f"import sys, {', '.join(names)}; print('cattrs' in sys.modules)") == "False\n"


def contrib_modules() -> list[str]:
    return [n for n in map(module_name, SOURCES) if n.startswith("hastack.contrib.")]


def test_contrib_without_its_package_says_what_to_install() -> None:
    answers = json.loads(
        run(
            BARE
            + f"""
    import importlib, json
    from hastack.errors import MissingDependency
    answers = {{}}
    for name in {contrib_modules()!r}:
        try:
            importlib.import_module(name)
        except MissingDependency as missing:
            assert isinstance(missing, ImportError)
            answers[name] = [missing.package, missing.extra, str(missing)]
    print(json.dumps(answers))
    """
        )
    )
    for name, (package, extra, message) in answers.items():
        assert extra in EXTRAS, name
        assert message == (
            f"{package} is not installed. Install it with: pip install 'hastack[{extra}]'"
        )


def test_the_command_without_its_extra_says_what_to_install() -> None:
    out = run(
        BARE
        + """
    from hastack.cli import main
    sys.stderr = sys.stdout
    try:
        main()
    except SystemExit as end:
        print(end.code)
    """
    )
    message, status = out.splitlines()
    assert message.startswith("hastack: ")
    assert message.endswith("is not installed. Install it with: pip install 'hastack[cli]'")
    assert status == "2"


def test_an_import_error_inside_an_installed_package_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hastack._core._extras import require
    from hastack.errors import MissingDependency

    (tmp_path / "hastack_test_broken.py").write_text("import hastack_test_absent\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="hastack_test_absent") as caught:
        require("hastack_test_broken", extra="web")
    assert not isinstance(caught.value, MissingDependency)
    with pytest.raises(MissingDependency, match=r"pip install 'hastack\[web\]'"):
        require("hastack_test_absent.part", extra="web")


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_third_party_packages_come_in_through_require_only(path: Path) -> None:
    known = set(sys.stdlib_module_names) | {"hastack"} | BASE
    tops = {name.partition(".")[0] for name in imports(module_name(path))}
    assert not tops - known


def requirements() -> list[tuple[str, str, str]]:
    spec = importlib.util.spec_from_file_location("m", ROOT / "scripts" / "extras_modules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[tuple[str, str, str]] = module.requirements(SRC)
    return found


def test_every_required_package_is_in_the_extra_that_is_named() -> None:
    for where, module, extra in requirements():
        top = module.partition(".")[0]
        packages = {item.partition(">")[0] for item in EXTRAS.get(extra, ())}
        assert PACKAGES.get(top, top) in packages, f"{where}: {module} is not in [{extra}]"


def test_all_extras_are_in_all() -> None:
    (everything,) = EXTRAS["all"]
    names = everything.removeprefix("hastack[").removesuffix("]").split(",")
    assert set(names) == set(EXTRAS) - {"all"}


def way_to_impurity(module: str) -> str | None:
    """Along which imports a module reaches a clock, a lock, a loop or a socket."""
    chains = {module: module}
    todo = [module]
    while todo:
        current = todo.pop()
        for name in imports(current):
            if name.partition(".")[0] in IMPURE:
                return f"{chains[current]} -> {name}"
            if is_ours(name) and name not in chains:
                chains[name] = f"{chains[current]} -> {name}"
                todo.append(name)
    return None


@pytest.mark.parametrize("module", PURE_MODULES)
def test_a_pure_module_reaches_no_clock_lock_loop_or_socket(module: str) -> None:
    assert way_to_impurity(module) is None


def test_no_pure_module_escapes_the_list() -> None:
    for path in SOURCES:
        module = module_name(path)
        private = path.stem.startswith("_") and path.stem not in {"__init__", "__main__"}
        if private and not module.startswith(("hastack._core.", "hastack.cli.")):
            assert (module in PURE_MODULES) == (way_to_impurity(module) is None), module
