"""Compile each ``proto`` directory under src into the descriptor set that is shipped beside it.

usage: protos.py [--check]

``src/hastack/<package>/proto/**/*.proto`` becomes ``src/hastack/<package>/proto.binpb``, one
FileDescriptorSet, which `hastack` loads into a descriptor pool of its own. The well-known types of
protobuf are left out of it. ``--check`` only says whether the files are up to date. Needs
grpcio-tools (dependency group ``protos``).
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def compiled(directory: Path) -> FileDescriptorSet:
    """What the compiler makes of all .proto files in ``directory``."""
    files = sorted(str(path.relative_to(directory)) for path in directory.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "set"
        status = protoc.main(
            [
                "protoc",
                f"-I{directory}",
                f"-I{resources.files('grpc_tools') / '_proto'}",
                f"--descriptor_set_out={target}",
                *files,
            ]
        )
        if status:
            sys.exit(f"{directory.relative_to(ROOT)}: protoc failed")
        return FileDescriptorSet.FromString(target.read_bytes())


def main(check: bool) -> int:
    """Write or compare every set; the number of those that are out of date."""
    stale = 0
    for directory in sorted((ROOT / "src").rglob("proto")):
        if not directory.is_dir():
            continue
        target = directory.with_name("proto.binpb")
        wanted = compiled(directory)
        # Parsed, because another version of the compiler may order the bytes differently.
        if target.is_file() and FileDescriptorSet.FromString(target.read_bytes()) == wanted:
            continue
        stale += 1
        name = target.relative_to(ROOT)
        if check:
            print(f"{name} is out of date; run scripts/protos.py")
        else:
            target.write_bytes(wanted.SerializeToString(deterministic=True))
            print(f"{name}: {len(wanted.file)} files, {target.stat().st_size} bytes")
    return stale if check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] == ["--check"]))
