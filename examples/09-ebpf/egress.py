"""Bytes that leave, by cgroup, once a second.

usage: egress.py [--cgroup FOLDER] [--seconds N]      as root
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from hastack import ebpf


def main(root: Path, seconds: float) -> None:
    before: dict[int, int] = {}
    with ebpf.load(compiled()) as obj:
        obj.programs["count"].attach(root)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(min(1.0, seconds))
            names = {path.stat().st_ino: path for path in (root, *folders(root))}
            now = {}
            for number, per_cpu in obj.by_cgroup.items():
                now[number] = sum(each.bytes for each in per_cpu)
            for number, total in sorted(now.items(), key=lambda item: -item[1])[:10]:
                name = names.get(number, f"cgroup {number}, gone")
                rate = total - before.get(number, 0)
                print(f"{rate:>12,} B/s {total:>14,} B  {name}", flush=True)
            before = now


def cgroup2() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise SystemExit("no cgroup of version 2 is mounted")


def folders(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_dir()]


def compiled() -> bytes:
    """A service would ship the object; here clang makes it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "object.bpf.o")
        return ebpf.build(Path(__file__).with_suffix(".bpf.c"), output=out).read_bytes()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--cgroup", type=Path, default=None)
    parser.add_argument("--seconds", type=float, default=3600.0)
    given = parser.parse_args()
    main(given.cgroup or cgroup2(), given.seconds)
