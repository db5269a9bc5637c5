"""The inventory: a small gRPC service that the orders depend on.

usage: inventory.py [hastack.toml]
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, OrderedDict

import grpc.aio
from opentelemetry import propagate, trace
from wiring import Wiring

from hastack import context, discovery
from hastack.contrib.grpc_aio import ServerContext
from hastack.contrib.grpc_health import add_health
from hastack.contrib.grpc_server import AioGrpcServer

KEYS_KEPT = 100_000


class Inventory:
    """Stock that only shrinks, a millisecond per call, and a switch that makes it slow."""

    def __init__(self) -> None:
        self.delay = 0.001
        self.reserved: Counter[str] = Counter()
        self.known: OrderedDict[str, str] = OrderedDict()  # orders by their idempotency key

    async def reserve(self, asked: dict) -> dict:
        await asyncio.sleep(self.delay)
        if asked["key"] not in self.known:  # a retry is answered, and not counted, again
            self.known[asked["key"]] = asked["item"]
            self.reserved[asked["item"]] += 1
            if len(self.known) > KEYS_KEPT:
                self.known.popitem(last=False)
        return {"inventory": context.current().remaining()}

    async def stock(self, asked: dict) -> dict:
        await asyncio.sleep(self.delay)
        return {"stock": 1_000_000 - self.reserved[asked["item"]]}

    async def switch(self, asked: dict) -> dict:
        """For the scenario: from now on a call takes so many seconds."""
        self.delay = asked["delay"]
        return {"reserved": self.reserved}

    def handlers(self) -> grpc.GenericRpcHandler:
        methods = {"Reserve": self.reserve, "Stock": self.stock, "Switch": self.switch}
        return grpc.method_handlers_generic_handler(
            "shop.Inventory",
            {
                name: grpc.unary_unary_rpc_method_handler(
                    traced(name, method), json.loads, lambda answer: json.dumps(answer).encode()
                )
                for name, method in methods.items()
            },
        )


def traced(name: str, method):
    """``method`` for gRPC, within a span that continues its caller's trace."""
    tracer = trace.get_tracer("shop")

    async def run(asked: dict, call: grpc.aio.ServicerContext) -> dict:
        caller = propagate.extract(dict(call.invocation_metadata()))
        with tracer.start_as_current_span(name, caller, kind=trace.SpanKind.SERVER):
            return await method(asked)

    return run


async def main(path: str) -> None:
    wiring = Wiring("inventory", path)
    # Deadlines come with the calls; without one, a call may take five seconds.
    server = grpc.aio.server(
        interceptors=[
            ServerContext(
                root=wiring.life.context,
                max_timeout=5.0,
                guards={"/shop.Inventory/*": wiring.guard("at-once")},
            )
        ]
    )
    server.add_generic_rpc_handlers([Inventory().handlers()])
    add_health(server, wiring.health, services=["shop.Inventory"])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    wiring.life.add(AioGrpcServer(server, depends_on=["registry"]))
    wiring.offer(address, discovery.GrpcHealth(address, service="shop.Inventory"), "grpc")
    await wiring.life.run_async()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "hastack.toml"))
