"""What is distributed: the sdist builds the wheel, the wheel holds what it must, and installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import bpf_objects
import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "hastack"
LIBBPF = next(Path("/usr/lib").glob("*-linux-gnu/libbpf.so.1"), None)
BUILD = "import sys, setuptools.build_meta as b; print(b.build_{}(sys.argv[1]))"
# What a build reads; not .git, and nothing that an older build has left.
PARTS = (
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "scripts",
    "src",
    "examples",
)
LEFT_OUT = ("__pycache__", "*.egg-info", "*.so", "_bundled", "build")


def run(*command, **options):
    command = [str(part) for part in command]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=55, check=False, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the sources: builds leave things behind."""
    copy = tmp_path_factory.mktemp("sources")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        else:
            shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def sdist(tree, tmp_path_factory):
    """The sdist, unpacked."""
    made = tmp_path_factory.mktemp("sdist")
    name = run(sys.executable, "-c", BUILD.format("sdist"), made, cwd=tree).splitlines()[-1]
    with tarfile.open(made / name) as packed:
        # Python 3.11.2 has no filters; from 3.12 on it warns without one.
        kept = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        packed.extractall(made, **kept)
    return made / name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel that the sdist builds."""
    made = tmp_path_factory.mktemp("wheel")
    environment = {k: v for k, v in os.environ.items() if k != "HASTACK_COMPILE"}
    build = [sys.executable, "-c", BUILD.format("wheel"), made]
    return made / run(*build, cwd=sdist, env=environment).splitlines()[-1]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The interpreter of an environment with hastack and what the base install brings."""
    place = tmp_path_factory.mktemp("clean")
    venv.create(place, with_pip=False, symlinks=True)
    [packages] = place.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    for name in ("attrs", "cattrs", "typing_extensions"):
        for file in distribution(name).files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), target)
    return place / "bin" / "python"


def names(wheel):
    with zipfile.ZipFile(wheel) as packed:
        return set(packed.namelist())


def test_the_wheel_is_for_every_machine_and_holds_every_file_of_the_package(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    held = names(wheel)
    for path in SRC.rglob("*"):
        parts = path.relative_to(SRC).parts
        made = {"__pycache__", "_bundled"} & set(parts) or path.suffix == ".so"
        if path.is_file() and not made:
            assert "/".join(("hastack", *parts)) in held, path
    assert "hastack/py.typed" in held
    assert "hastack/discovery/etcd/proto.binpb" in held


def test_the_wheel_holds_nothing_else(wheel):
    held = names(wheel)
    assert {name.partition("/")[0].partition("-")[0] for name in held} == {"hastack"}
    assert not [name for name in held if "test_" in name or name.startswith("tests")]
    assert not [name for name in held if name.endswith((".so", ".pyc"))]
    assert [name for name in held if name.endswith("/licenses/LICENSE")]


def test_the_sdist_holds_what_a_compiled_build_needs(sdist):
    for name in ("setup.py", "scripts/pure.py", "scripts/ring_native.py", "LICENSE", "README.md"):
        assert (sdist / name).is_file(), name


SMOKE = """
import hastack, pathlib
from hastack import context, discovery, events, ratelimit
from hastack.lifecycle import Lifecycle
assert "site-packages" in pathlib.Path(hastack.__file__).parts
guard = ratelimit.compose(ratelimit.Timeout(1.0), ratelimit.TokenBucket("10/s"))
assert guard(lambda: 5)() == 5
with context.timeout(1.0):
    assert context.current().remaining() > 0.5
print(hastack.__version__ if hasattr(hastack, "__version__") else "")
"""


def test_it_runs_where_nothing_else_is_installed(installed, tmp_path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    run(installed, "-W", "error", "-c", SMOKE, cwd=tmp_path, env=environment)
    done = subprocess.run(
        [installed, "-m", "hastack", "doctor"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "hastack: click is not installed. Install it with: pip install 'hastack[cli]'\n"
    )


LOAD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from hastack import ebpf
from hastack.ebpf import _libbpf
found = Path(_libbpf.library().path)
assert found == Path(sys.argv[1], "hastack/ebpf/_bundled/libbpf.so.1"), found
with ebpf.load(sys.argv[2]) as loaded:
    print(sorted(loaded.programs)[0])
"""


@pytest.mark.skipif(LIBBPF is None, reason="libbpf1 is not installed")
def test_a_wheel_with_libbpf_in_it_loads_an_object(tree, tmp_path):
    bpf_objects.needs()
    licence = tmp_path / "copyright"
    licence.write_text("the licence of libbpf\n")
    script = [tree / "scripts" / "bundled_wheel.py", "--libbpf", LIBBPF, "--licence", licence]
    # pip turns this around: false means that no environment is made for the build.
    run(sys.executable, *script, env={**os.environ, "PIP_NO_BUILD_ISOLATION": "false"})
    [made] = (tree / "dist").glob("*.whl")
    # It must not be installed on a machine of another kind.
    assert made.name.endswith(f"-py3-none-linux_{os.uname().machine}.whl")
    held = names(made)
    assert {"hastack/ebpf/_bundled/libbpf.so.1", "hastack/ebpf/_bundled/copyright"} <= held
    assert not (tree / "build").exists()  # the next wheel would take libbpf from there
    place, built = tmp_path / "installed", tmp_path / "basics.bpf.o"
    zipfile.ZipFile(made).extractall(place)
    built.write_bytes(bpf_objects.built("basics"))
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "HASTACK_LIBBPF"}}
    assert run(sys.executable, "-c", LOAD, place, built, env=environment)


@pytest.mark.skipif(LIBBPF is None, reason="libbpf1 is not installed")
def test_what_is_bundled_comes_with_its_licence(tree):
    script = [sys.executable, str(tree / "scripts" / "bundled_wheel.py"), "--libbpf", str(LIBBPF)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 2
    assert "--libbpf takes --licence" in done.stderr
