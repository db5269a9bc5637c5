"""Runs the experiment: two processes and one load per strategy, one strategy after the other."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs

from ._children import Child
from ._driver import Driver
from ._score import Score, Tick, score, series

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ._strategies import Strategy
    from ._workload import Plan

_START_WITHIN = 20.0  # seconds; a cold machine compiles every module first
_HEAD_START = 0.15  # between telling the children the start time and that time


@attrs.define
class Running:
    """One strategy while it runs: what live displays look at.

    Attributes:
        strategy: Which one.
        driver: The load.
        start: Monotonic time of the load's begin.
        ticks: What the service said about its guards so far.
    """

    strategy: Strategy
    driver: Driver
    start: float
    ticks: list[Tick] = attrs.field(factory=list)


@attrs.frozen
class Result:
    """One strategy afterwards.

    Attributes:
        strategy: Which one.
        score: Its numbers.
        series: Its chart data.
        ticks: Its guards over time.
    """

    strategy: Strategy
    score: Score
    series: dict[str, list[Any]]
    ticks: list[Tick]


@attrs.frozen
class Site:
    """A service with its dependency, both running.

    Attributes:
        strategy: Whose guards the service carries.
        dependency: Process of the dependency.
        service: Process of the service.
        port: Where the service listens.
    """

    strategy: Strategy
    dependency: Child
    service: Child
    port: int

    @classmethod
    async def start(cls, stack: AsyncExitStack, plan: Plan, strategy: Strategy, port: int) -> Site:
        """Start both; ``stack`` ends them."""
        dependency = await Child.start("_dependency", "dependency", plan=plan.to_dict())
        stack.push_async_callback(dependency.stop)
        there = (await dependency.hear(_START_WITHIN))["port"]
        service = await Child.start(
            "_service",
            f"service ({strategy.name})",
            plan=plan.to_dict(),
            strategy=strategy.name,
            dependency=there,
            port=port,
        )
        stack.push_async_callback(service.stop)
        here = (await service.hear(_START_WITHIN))["port"]
        return cls(strategy, dependency, service, here)

    async def stop(self) -> None:
        """End both processes."""
        await self.service.stop()
        await self.dependency.stop()


@asynccontextmanager
async def experiment(
    plan: Plan,
    strategies: Sequence[Strategy],
    arrivals: Sequence[float],
    *,
    watching: Callable[[Running], None],
    finished: Callable[[Result], None],
    port: int = 0,
) -> AsyncIterator[Site]:
    """Run every strategy against the same arrivals.

    Args:
        plan: The experiment.
        strategies: Which ones, in order.
        arrivals: Seconds from the start, ascending.
        watching: Called when a strategy begins.
        finished: Called when it has ended.
        port: For the last service; 0 takes a free one.

    Yields:
        The last service with its dependency, still up until the end of the block.

    Raises:
        ChildFailed: A process did not start, or ended early.
    """
    async with AsyncExitStack() as stack:
        # All start at once, before any load: later they would disturb the measurement.
        sites = await asyncio.gather(
            *(
                Site.start(stack, plan, strategy, port if strategy is strategies[-1] else 0)
                for strategy in strategies
            )
        )
        for site in sites:
            finished(await _measure(plan, site, arrivals, watching))
            if site is not sites[-1]:
                await site.stop()
        yield sites[-1]


async def _measure(
    plan: Plan, site: Site, arrivals: Sequence[float], watching: Callable[[Running], None]
) -> Result:
    start = time.monotonic() + _HEAD_START
    site.dependency.say(start=start)
    site.service.say(start=start)
    running = Running(site.strategy, Driver(site.port, plan), start)
    watching(running)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_listen(site.service, running.ticks))
            group.create_task(running.driver.run(arrivals, start))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # whichever it is, one is enough to stop
    driver = running.driver
    return Result(
        site.strategy,
        score(plan, driver.samples, running.ticks, driver.lag),
        series(plan, driver.samples),
        running.ticks,
    )


async def _listen(service: Child, ticks: list[Tick]) -> None:
    while "done" not in (message := await service.hear()):
        ticks.append(Tick(**message))
