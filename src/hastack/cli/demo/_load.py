"""The load as a process of its own: neither the service nor the display can delay it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ._children import run_child
from ._driver import Driver

if TYPE_CHECKING:
    from ._children import Parent

_REPORT_EVERY = 0.2  # seconds


async def _main(parent: Parent) -> None:
    driver = Driver(parent.spec["port"], parent.plan)
    parent.say(ready=True)
    start = (await parent.hear())["start"]
    driving = asyncio.create_task(driver.run(parent.spec["arrivals"], start))
    gone = asyncio.create_task(parent.gone())
    told = 0
    while not driving.done() and not gone.done():
        await asyncio.wait(
            [driving, gone], timeout=_REPORT_EVERY, return_when=asyncio.FIRST_COMPLETED
        )
        parent.say(samples=driver.samples[told:])
        told = len(driver.samples)
    if driving.done():
        driving.result()
        parent.say(samples=driver.samples[told:], lag=driver.lag)
        await gone
    else:
        driving.cancel()
        await asyncio.wait([driving])


if __name__ == "__main__":
    run_child(_main)
