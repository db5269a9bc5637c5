"""eBPF objects that tests compile from tests/support/bpf, and what it takes to load them."""

from __future__ import annotations

import gc
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent / "bpf"


@cache
def folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="hastack-bpf-")


def has_clang() -> str:
    """Path of clang; skips the test where there is none."""
    clang = shutil.which("clang")
    if clang is None or not Path("/usr/include/bpf/bpf_helpers.h").exists():
        pytest.skip("clang or libbpf-dev is not installed")
    return clang


@cache
def built(name: str, *flags: str) -> bytes:
    """The object made of tests/support/bpf/NAME.bpf.c."""
    clang = has_clang()
    out = Path(folder().name) / f"{name}{'_'.join(flags)}.bpf.o"
    include = f"/usr/include/{platform.machine()}-linux-gnu"
    source = SOURCES / f"{name}.bpf.c"
    command = [clang, "-g", "-O2", "-target", "bpf", f"-I{include}", *flags]
    done = subprocess.run(
        [*command, "-c", str(source), "-o", str(out)], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    return out.read_bytes()


@cache
def lacks(*names: str) -> str:
    from hastack.ebpf import features  # conftest.py loads this before coverage begins

    for name in ("libbpf", "bpf", *names):
        found = features.check(name)
        if not found:
            return f"{name}: {found.reason}"
    return ""


def needs(*names: str) -> None:
    """Skip the test, with the reason, where the kernel does not let it run."""
    missing = lacks(*names)
    if missing:
        pytest.skip(missing)


def cgroup_root() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup2" and os.access(fields[1], os.W_OK):
            return Path(fields[1])
    pytest.skip("no cgroup of version 2 that this process may change")
    raise AssertionError


def open_descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def kernel_objects() -> dict[str, int]:
    """How many programs, maps and links this machine has."""
    from hastack.ebpf import _kernel

    return {kind: len(list(_kernel.ids(kind))) for kind in ("program", "map", "link")}


def settles(limit: dict[str, int]) -> bool:
    """Whether there are no more objects than before; the kernel frees them a little later."""
    for _ in range(200):
        now = kernel_objects()
        if all(now[kind] <= limit[kind] for kind in limit):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def cgroup() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hastack-test-", dir=cgroup_root()))
    folder.chmod(0o755)
    yield folder
    for _ in range(100):  # a process that was killed leaves a little later
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.02)
        else:
            return
    folder.rmdir()


@pytest.fixture(scope="module")
def probed(tmp_path_factory) -> str:
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    out = tmp_path_factory.mktemp("probed") / "probed"
    source = Path(__file__).parent / "probed.c"
    subprocess.run([compiler, "-O1", "-g", str(source), "-o", str(out)], check=True)
    return str(out)
