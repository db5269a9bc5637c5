"""The system calls of all processes or of one, most frequent first, once a second.

usage: syscalls.py [--pid N] [--seconds N]      as root
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path

from hastack import ebpf


def main(pid: int, seconds: float) -> None:
    names, before = known(), {}
    with ebpf.load(compiled(), globals={"only": pid}) as obj:
        obj.attach()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(min(1.0, seconds))
            now = {number: sum(per_cpu) for number, per_cpu in obj.calls.items()}
            new = {n: count - before.get(n, 0) for n, count in now.items()}
            for number, count in sorted(new.items(), key=lambda item: -item[1])[:10]:
                if count:
                    print(f"{count:>10,}  {names.get(number, f'number {number}')}", flush=True)
            print(flush=True)
            before = now


def known() -> dict[int, str]:
    """Names from the C library's headers, where they are installed."""
    found = {}
    for path in Path("/usr/include").glob("*/asm/unistd_64.h"):
        for name, number in re.findall(r"#define __NR_(\w+) (\d+)", path.read_text()):
            found[int(number)] = name
    return found


def compiled() -> bytes:
    """A service would ship the object; here clang makes it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "object.bpf.o")
        return ebpf.build(Path(__file__).with_suffix(".bpf.c"), output=out).read_bytes()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pid", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3600.0)
    given = parser.parse_args()
    main(given.pid, given.seconds)
