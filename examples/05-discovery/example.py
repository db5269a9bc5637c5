"""A client that finds three instances and keeps up with what happens to them.

usage: example.py [STORE_URL]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from hastack import discovery

INSTANCE = Path(__file__).with_name("instance.py")


async def main(url: str) -> None:
    async with discovery.connect(url) as registry, registry.watch("orders") as feed:
        following = asyncio.create_task(follow(feed))
        started = [await start(url) for _ in range(3)]
        leaves, dies, falls_ill = started
        try:
            await until(registry, 3)
            print("three are there")

            leaves.terminate()
            await leaves.wait()
            await until(registry, 2)
            print("one has left")

            falls_ill.stdin.write(b"ill\n")
            await until(registry, 1)
            print("one is ill")
            falls_ill.stdin.write(b"well\n")
            await until(registry, 2)
            print("and well again")

            began = time.monotonic()
            dies.kill()
            await until(registry, 1)
            print(f"one was killed: gone after {time.monotonic() - began:.1f} s, with its lease")

            [left] = registry.resolve("orders").instances
            host, _, port = left.address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            print("the last one says", (await reader.readline()).decode().strip())
            writer.close()
        finally:
            following.cancel()
            for each in started:
                if each.returncode is None:
                    each.terminate()
                await each.wait()


async def follow(feed: discovery.ServiceWatch) -> None:
    async for change in feed:
        state = " (draining)" if change.instance.draining else ""
        print(f"    {change.kind} {change.instance.address}{state}")


async def start(url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, str(INSTANCE), url, stdin=asyncio.subprocess.PIPE
    )


async def until(registry: discovery.Registry, count: int) -> None:
    """Wait until so many instances take calls."""
    async with asyncio.timeout(30):
        while True:
            found = await registry.resolve_async("orders")
            if sum(not each.draining for each in found.instances) == count:
                return
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else f"memory://{directory}/store"))
