"""Random faults against a real etcd, as many schedules as you like; `make chaos` runs 1,000.

Each schedule cuts, freezes, stops, kills, compacts, defragments, wipes and restores, while
subscribers come and go, begin in the past, or do not keep up; each batch that any of them is given
is checked against the histories that the schedule made (tests/support/watch_chaos.py).

Run: ``PYTHONPATH=src:tests/support python bench/etcd_watch_chaos.py --schedules 1000 --at-once 4``
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from etcd_servers import Etcd, TcpProxy, binaries
from watch_chaos import Chaos

LIMIT = 180.0  # seconds for one schedule; ends what hangs


async def schedule(seed: int, binary: str, steps: int, totals: Counter[str]) -> str:
    """What went wrong with it; empty when nothing did."""
    with tempfile.TemporaryDirectory() as directory:
        server = Etcd(Path(directory), binary=binary)
        await asyncio.to_thread(server.start)
        proxy = TcpProxy(server.port)
        log: list[str] = []
        chaos = Chaos(server, proxy, seed, steps=steps, say=log.append)
        try:
            async with asyncio.timeout(LIMIT):
                await chaos.run()
        except Exception:
            return "\n".join([traceback.format_exc(), "steps: " + ", ".join(log)])
        finally:
            server.kill()
            proxy.close()
            totals["forgotten"] += bool(chaos.forgot)
            totals["batches"] += chaos.batches
            totals["events"] += chaos.told
            totals["resyncs"] += chaos.resyncs
        return ""


async def run(arguments: argparse.Namespace) -> int:
    found = binaries()
    seeds = iter(range(arguments.first, arguments.first + arguments.schedules))
    kinds = itertools.cycle(sorted(found))
    totals: Counter[str] = Counter()
    failures: list[int] = []
    began = time.monotonic()

    async def work() -> None:
        for seed in seeds:
            if time.monotonic() - began > arguments.seconds:
                return
            kind = next(kinds)
            problem = await schedule(seed, found[kind], arguments.steps, totals)
            totals["schedules"] += 1
            if problem:
                failures.append(seed)
                print(f"schedule {seed} on etcd {kind}:\n{problem}", flush=True)
            elif totals["schedules"] % 25 == 0:
                print(f"{totals['schedules']} schedules, {len(failures)} violations", flush=True)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(arguments.at_once):
            tasks.create_task(work())
    print(
        f"{totals['schedules']} schedules on etcd {', '.join(sorted(found))} in "
        f"{time.monotonic() - began:.0f} s: {totals['batches']} batches with {totals['events']} "
        f"changes, {totals['resyncs']} of them resyncs; violations: {failures or 'none'}; ended early "
        f"because a killed etcd came back with another history: {totals['forgotten']}"
    )
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first schedule")
    parser.add_argument("--steps", type=int, default=25, help="faults in one schedule")
    parser.add_argument("--at-once", type=int, default=4, help="schedules that run at once")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no more after this long")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
