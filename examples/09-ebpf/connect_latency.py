"""How long connections take, by process: a line per connection, and a summary at the end.

usage: connect_latency.py [--seconds N]      as root
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from hastack import ebpf


async def main(seconds: float) -> None:
    took: dict[tuple[str, int], list[int]] = defaultdict(list)
    with ebpf.load(compiled()) as obj, obj.ring("events") as ring:
        obj.attach()
        print(f"{'PROCESS':16} {'PID':>7} {'PORT':>5} {'MICROS':>8}", flush=True)
        asyncio.get_running_loop().call_later(seconds, ring.close)
        async for batch in ring:
            for event in batch.objects():
                took[event.comm, event.pid].append(event.micros)
                state = "" if event.established else "  failed"
                line = f"{event.comm:16} {event.pid:7} {event.port:5} {event.micros:8}{state}"
                print(line, flush=True)
        account = ring.account()
    for (comm, pid), micros in took.items():
        print(
            f"{comm} ({pid}): {len(micros)} connections, median {statistics.median(micros):.0f} us"
        )
    print(f"{account.consumed} events, {account.lost} lost")


def compiled() -> bytes:
    """A service would ship the object; here clang makes it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "object.bpf.o")
        return ebpf.build(Path(__file__).with_suffix(".bpf.c"), output=out).read_bytes()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3600.0)
    asyncio.run(main(parser.parse_args().seconds))
