"""Steady load: clients that find the instances themselves and are told nothing else."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from typing import TYPE_CHECKING

import attrs
import httpx

from hastack import context, ratelimit
from hastack.contrib import propagate
from hastack.contrib.httpx import AsyncBalancedTransport
from hastack.discovery.balance import Balancer
from hastack.errors import HastackError

if TYPE_CHECKING:
    from hastack.discovery import Registry

PATIENCE = 2.5  # seconds that a client has; it tells the service so


@attrs.frozen
class Sample:
    """What a client saw: ``status`` is 0 where there was no answer.

    ``late`` is how long after its time the request left: the fault of this program, or of a machine
    that had no time for it.
    """

    sent: float
    took: float
    status: int
    late: float


class Load:
    """So many requests a second from twelve clients; three of four are orders.

    They repeat a request whose connection broke, as they may: each order has an idempotency key.
    """

    def __init__(self, registry: Registry, *, rate: float) -> None:
        self.balancer = Balancer("orders").follow(registry)
        self.client = httpx.AsyncClient(
            transport=AsyncBalancedTransport(self.balancer), base_url="http://orders"
        )
        self.rate = rate
        self.samples: list[Sample] = []
        self.asked: set[str] = set()  # keys of all orders
        self.taken: set[str] = set()  # keys of those that were accepted
        again = ratelimit.Retry(
            attempts=4,
            base=0.05,
            retry_on=(httpx.NetworkError, httpx.RemoteProtocolError),
            budget=ratelimit.RetryBudget(0.2, min_per_second=10.0),
        )
        self.send = ratelimit.compose(ratelimit.Timeout(PATIENCE), again)(self._send)

    async def _send(self, method: str, path: str, **options: object) -> int:
        headers = propagate.outgoing_headers(context.current()) | options.pop("headers")
        return (await self.client.request(method, path, headers=headers, **options)).status_code

    async def one(self, number: int, client: str | None = None, late: float = 0.0) -> int:
        """One request; what came of it is kept, unless it is somebody else's."""
        headers = {"x-client": client or f"client-{number % 12}"}
        sent = time.monotonic()
        try:
            if number % 4:
                key = headers["idempotency-key"] = uuid.uuid4().hex
                self.asked.add(key)
                status = await self.send("POST", "/orders", headers=headers, json={"item": "tea"})
                if status == 201:
                    self.taken.add(key)
            else:
                status = await self.send("GET", "/stock/tea", headers=headers)
        except (httpx.HTTPError, HastackError):
            status = 0
        if client is None:
            self.samples.append(Sample(sent, time.monotonic() - sent, status, late))
        return status

    async def run(self) -> None:
        """Send until cancelled; a request leaves when its time has come, whatever the others do."""
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                due = start + number / self.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self.one(number, late=time.monotonic() - due))

    async def close(self) -> None:
        await self.client.aclose()
        self.balancer.close()
