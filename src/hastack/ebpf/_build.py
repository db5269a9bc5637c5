"""From C to an object, with clang; never needed where objects run."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hastack._core._errors import EbpfError, InvalidArgument, Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("build", "minimal_btf")

_KERNEL_TYPES = Path("/sys/kernel/btf/vmlinux")
_LONGEST = 300.0  # seconds for one run of a tool
_LITTLE = ("x86_64", "aarch64", "riscv64", "ppc64le", "loongarch64")
# What headers of BPF programs ask for, by machine.
_ARCHITECTURES = {"x86_64": "x86", "aarch64": "arm64", "riscv64": "riscv", "ppc64le": "powerpc"}


def build(
    source: str | Path,
    *,
    output: str | Path | None = None,
    vmlinux: str | Path | None = None,
    flags: Sequence[str] = (),
    strip: bool = True,
) -> Path:
    """Compile a program into an object.

    A source that includes ``vmlinux.h`` and has none beside it gets one made from the running
    kernel's types, with bpftool.

    Args:
        source: ``NAME.bpf.c``.
        output: Where the object goes; beside the source, with ``.o``, by default.
        vmlinux: A ``vmlinux.h`` to use, or a file with types (BTF) to make one from.
        flags: Further arguments of clang.
        strip: Whether to take debugging information other than BTF out, where llvm-strip is there.

    Raises:
        Unsupported: clang, or bpftool where it is needed, is not there.
        EbpfError: clang refused the source; the message is its own.
    """
    path = Path(source)
    if not path.is_file():
        raise InvalidArgument("source", str(source), "a file of C")
    out = Path(output) if output is not None else path.with_suffix(".o")
    machine = platform.machine()
    with tempfile.TemporaryDirectory(prefix="hastack-build-") as folder:
        include = [f"-I{path.parent}", f"-I/usr/include/{machine}-linux-gnu"]
        if _wants_vmlinux(path):
            include.insert(0, f"-I{_vmlinux(Path(folder), vmlinux)}")
        made = Path(folder, "object.o")
        target = "bpfel" if machine in _LITTLE else "bpf"
        define = f"-D__TARGET_ARCH_{_ARCHITECTURES.get(machine, machine)}"
        command = ["-g", "-O2", "-Wall", "-target", target, define, *include, *flags]
        _run("clang", *command, "-c", str(path), "-o", str(made))
        if strip and shutil.which("llvm-strip"):
            _run("llvm-strip", "-g", str(made))
        out.parent.mkdir(parents=True, exist_ok=True)
        # In one step: whoever loads the object meanwhile gets the old one or the new one.
        aside = out.with_name(f".{out.name}.{os.getpid()}")
        shutil.copyfile(made, aside)
        aside.replace(out)
    return out


def minimal_btf(
    objects: Sequence[str | Path], output: str | Path, *, btf: str | Path = _KERNEL_TYPES
) -> Path:
    """The part of a kernel's types that some objects need: kilobytes instead of megabytes.

    Args:
        objects: The objects.
        output: Where it goes; `load` takes it as ``btf=`` on kernels that bring no types.
        btf: All types of that kernel.

    Raises:
        Unsupported: bpftool is not there.
        EbpfError: bpftool refused.
    """
    out = Path(output)
    _run("bpftool", "gen", "min_core_btf", str(btf), str(out), *map(str, objects))
    return out


def _wants_vmlinux(path: Path) -> bool:
    text = path.read_text("utf-8", "replace")
    return '"vmlinux.h"' in text and not path.with_name("vmlinux.h").exists()


def _vmlinux(folder: Path, given: str | Path | None) -> Path:
    """A folder with a ``vmlinux.h``."""
    if given is not None and Path(given).suffix == ".h":
        return Path(given).resolve().parent
    types = Path(given) if given is not None else _KERNEL_TYPES
    if not types.exists():
        raise Unsupported("vmlinux.h", f"{types} is not there", remedy="Name one with vmlinux=")
    header = _run("bpftool", "btf", "dump", "file", str(types), "format", "c")
    (folder / "vmlinux.h").write_bytes(header)
    return folder


def _run(tool: str, *arguments: str) -> bytes:
    path = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise Unsupported(tool, "it is not on the path", remedy=f"apt-get install {tool}")
    done = subprocess.run(  # noqa: S603  # a tool of the system, without a shell
        [path, *arguments], capture_output=True, timeout=_LONGEST, check=False
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise EbpfError(f"{tool} ended with {done.returncode}:\n{said}")
    return done.stdout
