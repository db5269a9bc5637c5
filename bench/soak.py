"""Everything on in one process, under load, with a fault every few seconds: does anything grow?

    python bench/soak.py [MINUTES]            # 3 by default; or make soak ARGS=10

Prints the least that was measured in the second quarter of the time beside that of the last one, and
fails when something grew by more than its allowance. tracemalloc is on: times say nothing here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soak_verdict import Row

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "support")]

LEAKS = ("memory", "descriptors", "threads", "tasks", "timers")


def sample() -> dict[str, float]:
    from soak_parts import kernel_objects
    from whole_stack import running

    now = running()
    current, peak = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss KiB": pages * 4.0,
        "traced KiB": current / 1024.0,
        "peak KiB": peak / 1024.0,
        "descriptors": float(now["descriptors"]),
        "threads": float(now["threads"]),
        "tasks": float(now["tasks"]),
        "timers": float(now["timers"]),
        "kernel objects": float(kernel_objects()),
    }


async def soak(
    seconds: float, *, leaks: tuple[str, ...] = (), rate: float = 150.0, where: bool = False
) -> list[Row]:
    from soak_parts import Service, background, client, faults
    from soak_verdict import judge

    folder = tempfile.TemporaryDirectory(prefix="hastack-soak-")
    service = Service(Path(folder.name), leaks)
    samples: list[dict[str, float]] = []
    told: dict[str, int] = {}
    snapshot = None
    try:
        address = service.add_parts()
        async with service.life:
            work = [asyncio.create_task(background(service))]
            work += [asyncio.create_task(client(service, address, 8.0 / rate)) for _ in range(8)]
            began = time.monotonic()
            every = max(seconds / 80.0, 0.25)
            fault = faults(service)
            due = began + min(3.0, seconds / 8)
            # A starved machine takes longer, rather than judging by a handful of samples.
            while time.monotonic() < began + seconds or len(samples) < 16:
                await asyncio.sleep(every)
                gc.collect()
                samples.append(sample())
                if where and snapshot is None and time.monotonic() > began + seconds / 2:
                    snapshot = tracemalloc.take_snapshot()
                if time.monotonic() > due:
                    name, work_of = next(fault)
                    told[name] = told.get(name, 0) + 1
                    await work_of()
                    due = time.monotonic() + min(2.0, seconds / 10)
            rows = judge(samples)
            if snapshot is not None:
                tell_growth(snapshot)
            for each in work:
                each.cancel()
            await asyncio.wait(work)
        await service.channel.close()
    finally:
        service.end()
        with contextlib.suppress(OSError):
            folder.cleanup()
    print(f"{seconds / 60.0:.1f} minutes; answers: {dict(sorted(service.outcomes.items()))}")
    print(f"faults: {told}")
    print(f"end: {service.life.report}")
    print(f"exported: {service.installed.pipeline.accounts()}")
    return rows


def tell_growth(before: tracemalloc.Snapshot) -> None:
    print("where memory grew in the second half:")
    for each in tracemalloc.take_snapshot().compare_to(before, "lineno")[:8]:
        print(f"  {each}")


def table(rows: list[Row]) -> str:
    lines = [f"| {'':14} | begin | second quarter | last quarter | may grow by | |"]
    lines.append("|---|---:|---:|---:|---:|---|")
    lines += [
        f"| {row.name:14} | {row.first:,.0f} | {row.early:,.0f} | {row.late:,.0f} "
        f"| {row.allowed:,.0f} | {'flat' if row.flat else 'GROWS'} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("minutes", nargs="?", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=150.0, help="requests per second, about")
    parser.add_argument("--leak", action="append", default=[], choices=LEAKS, help="to be found")
    parser.add_argument(
        "--where", action="store_true", help="say where memory grew (which takes some itself)"
    )
    parser.add_argument("--collector", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.collector:
        from soak_parts import collect

        collect()
    # Refused reloads and plugins are what happens here all the time.
    logging.getLogger("hastack").setLevel(logging.CRITICAL)
    logging.getLogger("soak").propagate = True
    logging.lastResort = None
    tracemalloc.start(1)
    leaks, rate = tuple(arguments.leak), arguments.rate
    rows = asyncio.run(
        soak(arguments.minutes * 60.0, leaks=leaks, rate=rate, where=arguments.where)
    )
    print(table(rows))
    return 0 if all(row.flat for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
