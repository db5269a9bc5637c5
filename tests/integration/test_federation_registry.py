"""One view over what is registered here and what is mirrored, through the registry."""

from __future__ import annotations

import asyncio
import contextlib

from fused_store import until

from hastack.discovery import Registry, memory
from hastack.discovery.federation import Forwarder

BOUND = 40.0


def test_a_registry_sees_mirrored_instances_and_which_origins_are_out_of_reach():
    async def main():
        east_store, west_store = memory.Store(), memory.Store()
        async with contextlib.AsyncExitStack() as stack:
            enter = stack.enter_async_context
            east = await enter(Registry(east_store, origin="east"))
            west = await enter(Registry(west_store, origin="west"))
            await enter(west.register("orders", "west:1", id="both", grace=0.0))
            await enter(Forwarder(east_store, west_store, origin="east", stale_after=1.0))
            only = await enter(east.register("orders", "east:2", id="only", grace=0.0))
            # The later registration of an id wins, as long as its origin can be seen.
            await enter(east.register("orders", "east:1", id="both", grace=0.0))

            async def found(*wanted, stale=frozenset()):
                known = await west.resolve_async("orders")
                return known.stale == stale and wanted == tuple(
                    (each.id, each.origin) for each in known.instances
                )

            all_of_east = [("both", "east"), ("only", "east")]
            await until(lambda: found(*all_of_east), seconds=BOUND)
            with east_store.outage():
                await until(
                    lambda: found(("both", "west"), ("only", "east"), stale={"east"}),
                    seconds=BOUND,
                )
            await until(lambda: found(*all_of_east), seconds=BOUND)
            await only.update(weight=3.0)

            async def changed():
                known = (await west.resolve_async("orders")).instances
                return [each.weight for each in known if each.id == "only"] == [3.0]

            await until(changed, seconds=BOUND)

    asyncio.run(main())
