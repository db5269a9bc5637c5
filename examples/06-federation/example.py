"""Two clusters: west finds the instances of east, also while it cannot see east.

usage: example.py
"""

from __future__ import annotations

import asyncio

from hastack.discovery import Registry, federation, memory


async def main() -> None:
    # In production: etcd.connect("etcd://..."), one for each cluster.
    east_store, west_store = memory.Store(), memory.Store()
    async with (
        Registry(east_store, origin="east") as east,
        Registry(west_store, origin="west") as west,
        federation.Forwarder(east_store, west_store, origin="east", stale_after=1.0) as bridge,
        west.register("orders", "west-1:8080", id="w1", grace=0.0),
    ):
        async with east.register("orders", "east-1:8080", id="e1", grace=0.0):
            await show(west, "both are there", 2)
            with east_store.outage():  # the link is cut
                await state(bridge, "stale")
                await show(west, "east is out of reach, its instances stay", 2)
            await state(bridge, "live")
            await show(west, "east is back", 2)
        await show(west, "the one in east has left", 1)


async def show(registry: Registry, what: str, count: int) -> None:
    """Wait until so many instances are known, and print them."""
    async with asyncio.timeout(30):
        while True:
            found = await registry.resolve_async("orders")
            if len(found.instances) == count:
                break
            await asyncio.sleep(0.02)
    print(f"{what}:", ", ".join(f"{each.address} of {each.origin}" for each in found.instances))


async def state(bridge: federation.Forwarder, wanted: str) -> None:
    """Wait until the origin stands like this."""
    async with asyncio.timeout(30):
        while True:
            if bridge.status().state.value == wanted:
                return
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main())
