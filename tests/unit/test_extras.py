"""Extras: what a module says without its package, what an extra brings, and what it must not."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    name: [Requirement(each) for each in lines]
    for name, lines in PROJECT["optional-dependencies"].items()
    if name != "all"
}


def script(name):
    """A module of scripts/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REQUIREMENTS = script("extras_modules").requirements(SRC)

# Says, in a process where one package cannot be imported, what each of some modules raises when it
# is imported and every name of its __all__ is looked up.
ASK = """
import importlib, json, sys
from hastack.errors import MissingDependency
absent = sys.argv[1]
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == absent or name.startswith(absent + "."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
answers = {}
for name in sys.argv[2:]:
    try:
        module = importlib.import_module(name)
        for each in getattr(module, "__all__", ()):
            getattr(module, each)
    except MissingDependency as error:
        answers[name] = [error.package, error.extra, str(error)]
print(json.dumps(answers))
"""


def at_import(path: Path) -> set[str]:
    """The packages that a module takes when it is imported, not later."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for each in ast.walk(node):
            called = isinstance(each, ast.Call) and ast.unparse(each.func)
            if called in {"require", "require_grpc"}:
                found.add(ast.literal_eval(each.args[0]).partition(".")[0] if each.args else "grpc")
    return found


def public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split(".")[1:])


def path_of(name: str) -> Path:
    base = SRC.joinpath(*name.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


# module, package, extra: public modules whose import takes a package.
NEEDING = sorted(
    {
        (where, module.partition(".")[0], extra)
        for where, module, extra in REQUIREMENTS
        if public(where) and module.partition(".")[0] in at_import(path_of(where))
    }
)


@pytest.mark.parametrize("package", sorted({package for _, package, _ in NEEDING}))
def test_a_module_without_its_package_says_exactly_what_to_type(package):
    wanted = {where: extra for where, each, extra in NEEDING if each == package}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK, package, *sorted(wanted)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for where, extra in wanted.items():
        assert answers.get(where) == [
            package,
            extra,
            f"{package} is not installed. Install it with: pip install 'hastack[{extra}]'",
        ], where


def test_there_are_modules_to_ask():
    names = {where for where, _, _ in NEEDING}
    assert {"hastack.contrib.anyio", "hastack.contrib.grpc", "hastack.contrib.httpx"} <= names


# Entry points of packages that load lazily: what is called, and the package that it cannot do without.
BACKEND = """
from hastack import observe
from hastack.observe._backends import exporters_of
exporters_of("x", observe.BackendConfig(endpoint="http://127.0.0.1:1"))
"""
ETCD = """
from hastack.discovery import etcd
etcd.connect("etcd://127.0.0.1:1").sync.get("key")
"""
SERVE = """
from hastack.contrib.uvicorn import serve
from hastack.lifecycle import Lifecycle
serve(None, lifecycle=Lifecycle())
"""
ACCESS = '10.0.0.7 - ada [10/Oct/2026:13:55:36 +0000] "GET / HTTP/1.1" 200 2326'
LAZY = [
    ("uvicorn", "web", SERVE),
    ("cffi", "ebpf", "from hastack.ebpf import features, _libbpf; _libbpf.library()"),
    ("wasmtime", "wasm", "from hastack import wasm; wasm.wat('(module)')"),
    ("cryptography", "wasm", "from hastack import wasm; wasm.PrivateKey.generate()"),
    ("grpc", "etcd", ETCD),
    ("google", "etcd", ETCD),
    (
        "opentelemetry",
        "otel",
        "from hastack import observe; observe.install(observe.ObserveConfig())",
    ),
    ("cramjam", "otel", BACKEND),
    ("urllib3", "otel", BACKEND),
    ("parsy", "logs", f"from hastack.observe import logs; logs.parse({ACCESS!r})"),
    ("msgspec", "logs", "from hastack.observe import logs; logs.parse('{}')"),
    ("pyarrow", "arrow", "from hastack.observe.logs import sinks; sinks.Arrow('x')"),
]

CALL = """
import sys
from hastack.errors import MissingDependency
absent = sys.argv[1]
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == absent or name.startswith(absent + "."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
try:
    exec(sys.argv[2])
except MissingDependency as error:
    print(error)
else:
    print("nothing was missed")
"""


@pytest.mark.parametrize(
    ("package", "extra", "code"), LAZY, ids=[f"{extra}-{package}" for package, extra, _ in LAZY]
)
def test_a_lazy_package_says_exactly_what_to_type_when_it_is_used(package, extra, code):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(CALL), package, code],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    named = {"google": "protobuf"}.get(package, package)
    assert done.stdout.strip() == (
        f"{named} is not installed. Install it with: pip install 'hastack[{extra}]'"
    )


def test_every_extra_has_a_module_or_an_entry_point_that_is_asked():
    asked = {extra for _, _, extra in NEEDING} | {extra for _, extra, _ in LAZY}
    assert asked | {"cli"} >= set(EXTRAS)  # cli is asked in test_imports


# No extra drags in another ------------------------------------------------------------------


def closure(names: list[Requirement]) -> dict[str, str]:
    """Every package that pip would install for these, by name, and which one asked for it."""
    found: dict[str, str] = {}
    todo = [(each, "") for each in names]
    while todo:
        need, asked = todo.pop()
        if need.marker is not None and not any(
            need.marker.evaluate({"extra": extra}) for extra in (asked_extras(asked) or {""})
        ):
            continue
        name = canonicalize_name(need.name)
        mark = f"{name}[{','.join(sorted(need.extras))}]"
        if found.get(name) == mark:
            continue
        found[name] = mark
        try:
            further = requires(name) or []
        except PackageNotFoundError:
            pytest.fail(f"{name} is not installed: the walk cannot go on")
        todo += [(Requirement(each), mark) for each in further]
    return found


def asked_extras(mark: str) -> set[str]:
    inside = mark.partition("[")[2].removesuffix("]")
    return {each for each in inside.split(",") if each}


# What packages of extras need themselves, and hastack lists elsewhere because it imports it: small
# foundations of their fields. anyio: starlette, httpx; click: uvicorn, flask; cffi: cryptography;
# protobuf: grpcio-health-checking; urllib3: requests.
FOUNDATIONS = {"anyio", "cffi", "click", "protobuf", "urllib3"}


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_no_extra_drags_in_another(extra):
    own = {canonicalize_name(each.name) for each in EXTRAS[extra]}
    others = {
        canonicalize_name(each.name)
        for name, needs in EXTRAS.items()
        if name != extra
        for each in needs
    }
    assert "hastack" not in own  # only `all` is made of extras
    brought = set(closure(EXTRAS[extra])) - own
    assert brought & others <= FOUNDATIONS


def test_the_base_install_is_attrs_and_cattrs():
    base = [Requirement(each) for each in PROJECT["dependencies"]]
    assert {each.name for each in base} == {"attrs", "cattrs"}
    assert set(closure(base)) <= {"attrs", "cattrs", "typing-extensions", "exceptiongroup"}


def test_the_readme_lists_every_extra_and_what_it_brings():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| `")]
    for name, needs in EXTRAS.items():
        [row] = [row for row in rows if f"`{name}`" in row[1] and len(row) == 5]
        for need in needs:
            assert need.name in row[2] or row[2].strip() == "the package of that name", name


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_oldest_engine_that_is_promised_is_one_that_is_taken(machine):
    from hastack.wasm._advisories import known_bad

    [engine] = [each for each in EXTRAS["wasm"] if each.name == "wasmtime"]
    oldest = str(engine.specifier).removeprefix(">=")
    assert known_bad(f"{oldest}.0.0", machine) == ""


# What scripts/extras.py keeps ---------------------------------------------------------------


def run_of(version, *, oldest=None, problems=()):
    found = {
        "problems": list(problems),
        "needs": ["click"],
        "packages": {"click": [version, 1_000_000], "hastack": ["0.1.0", 1]},
        "imports": {"hastack": [5.0, 10], "click": [30.0, 60]},
        "features": {"hastack.cli._app": [40.0, 70]},
    }
    if oldest:
        found["lowest"] = {"problems": [], "packages": {"click": [oldest, 1]}}
    return found


def test_what_was_found_is_kept_until_something_newer_is_found():
    tables = script("extras_tables")
    first = tables.merge({}, {"cli": run_of("8.2.0", oldest="8.1.0")})
    again = tables.merge(first, {"cli": run_of("8.3.0")})
    assert tables.ranges(again) == {"click": ("8.1.0", "8.3.0")}
    assert tables.merge(again, {"cli": run_of("9.0", problems=["smoke: no"])}) == again
    assert "click 8.1.0 to 8.3.0" in tables.packages(again)
    assert "| `hastack.cli._app` | cli | 40 | 70 |" in tables.imports(again)


def test_the_page_and_the_doctor_say_what_was_found():
    from hastack.cli.doctor._tested import TESTED

    tables = script("extras_tables")
    known = json.loads((ROOT / "docs" / "extras.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "extras.md").read_text(encoding="utf-8")
    assert tables.packages(known) in page
    assert tables.imports(known) in page
    assert tables.ranges(known) == TESTED
