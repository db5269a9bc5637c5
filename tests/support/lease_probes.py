"""What tests of leases ask of a server, and how they cancel at every await."""

from __future__ import annotations

import asyncio
import functools
import time
from functools import partial

from hastack.discovery.etcd import Client, _wire


def on_loop(test):
    """Run a test that is a coroutine function."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


def client_of(server, **options):
    return Client(server.endpoint, **options)


async def eventually(true, *, within=20.0):
    """Wait until ``true()``, which may be a coroutine function; the bound only ends what hangs."""
    end = time.monotonic() + within
    while True:
        answer = true()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return
        assert time.monotonic() < end, "did not come to pass"
        await asyncio.sleep(0.02)


async def call(client, method, request):
    return await client._transport().call(method, request, idempotent=True)


async def leases(client):
    """Ids of all leases that the server knows."""
    answer = await call(client, _wire.LEASE_LEASES, _wire.LeaseLeasesRequest())
    return {each.ID for each in answer.leases}


async def time_to_live(client, lease):
    """Seconds left as the server sees it; -1 for a lease that is not there."""
    request = _wire.LeaseTimeToLiveRequest(ID=lease)
    return (await call(client, _wire.LEASE_TIME_TO_LIVE, request)).TTL


async def revoke(client, lease):
    await call(client, _wire.LEASE_REVOKE, _wire.LeaseRevokeRequest(ID=lease))


class CancelAt:
    """Awaits a coroutine and cancels the task at its n-th suspension.

    With ``late``, only when what it waits for is done and before it knows: the store has answered.
    """

    def __init__(self, coroutine, step, *, late=False):
        self.coroutine = coroutine
        self.step = step
        self.late = late
        self.reached = 0

    def __await__(self):
        steps = self.coroutine.__await__()
        go_on = partial(steps.send, None)
        while True:
            try:
                waits_for = go_on()
            except StopIteration as end:
                return end.value
            self.reached += 1
            if self.reached == self.step:
                task = asyncio.current_task()
                if self.late and waits_for is not None:
                    # Before the task's own callback, which is added once this is handed on.
                    waits_for.add_done_callback(lambda _, task=task: task.cancel())
                else:
                    task.cancel()
            try:
                answer = yield waits_for
            except BaseException as error:
                go_on = partial(steps.throw, error)
            else:
                go_on = partial(steps.send, answer)


async def cancelled_everywhere(scenario, clean):
    """Run ``scenario()`` again and again, cancelled one suspension later each time, early and late.

    Returns:
        How many suspensions it has.
    """
    step = 0
    while True:
        step += 1
        assert step < 300
        for late in (False, True):
            driver = CancelAt(scenario(), step, late=late)
            task = asyncio.ensure_future(_drive(driver))
            await asyncio.wait((task,), timeout=20)
            assert task.done(), f"hangs when cancelled at step {step}"
            if not task.cancelled():
                task.result()
            await eventually(clean)
        if driver.reached < step:
            return step


async def _drive(driver):
    return await driver
