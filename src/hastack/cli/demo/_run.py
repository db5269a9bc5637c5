"""Runs the experiment: three processes per strategy, one strategy after the other."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from ._children import Child
from ._score import Sample, Score, Tick, score, series

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from ._strategies import Strategy
    from ._workload import Plan

_START_WITHIN = 20.0  # seconds; a cold machine compiles every module first
_HEAD_START = 0.15  # between telling the children the start time and that time


@attrs.define
class Running:
    """One strategy while it runs: what live displays look at.

    Attributes:
        strategy: Which one.
        start: Monotonic time of the load's begin.
        samples: What became of the requests so far.
        ticks: What the service said about its guards so far.
        lag: How late each request left, in seconds; known at the end.
    """

    strategy: Strategy
    start: float
    samples: list[Sample] = attrs.field(factory=list)
    ticks: list[Tick] = attrs.field(factory=list)
    lag: list[float] = attrs.field(factory=list)


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
    """A service with its dependency and its load, all running.

    Attributes:
        strategy: Whose guards the service carries.
        dependency: Process of the dependency.
        service: Process of the service.
        load: Process of the generator.
        port: Where the service listens.
    """

    strategy: Strategy
    dependency: Child
    service: Child
    load: Child
    port: int

    @classmethod
    async def start(
        cls,
        children: list[Child],
        plan: Plan,
        strategy: Strategy,
        arrivals: Sequence[float],
        port: int,
    ) -> Site:
        """Start all three, and put each into ``children`` at once."""

        async def child(module: str, name: str, **spec: object) -> tuple[Child, dict[str, Any]]:
            started = await Child.start(module, name, plan=plan.to_dict(), **spec)
            children.append(started)
            return started, await started.hear(_START_WITHIN)

        dependency, there = await child("_dependency", "dependency")
        service, here = await child(
            "_service",
            f"service ({strategy.name})",
            strategy=strategy.name,
            dependency=there["port"],
            port=port,
        )
        load, _ = await child("_load", "load", port=here["port"], arrivals=arrivals)
        return cls(strategy, dependency, service, load, here["port"])

    async def stop(self) -> None:
        """End service and dependency."""
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
        The last service with its dependency, up until the end of the block.

    Raises:
        ChildFailed: A process did not start, or ended early.
    """
    children: list[Child] = []
    try:
        # All start at once, before any load: later they would disturb the measurement.
        with _first_of_group():
            async with asyncio.TaskGroup() as group:
                starting = [
                    group.create_task(
                        Site.start(children, plan, strategy, arrivals, port if last else 0)
                    )
                    for strategy in strategies
                    for last in [strategy is strategies[-1]]
                ]
        sites = [task.result() for task in starting]
        for site in sites:
            finished(await _measure(plan, site, watching))
            await site.load.stop()
            if site is not sites[-1]:
                await site.stop()
        yield sites[-1]
    finally:
        await asyncio.gather(*(child.stop() for child in children))


@contextmanager
def _first_of_group() -> Iterator[None]:
    """Whichever error of a task group it is: one is enough to stop, and to be told."""
    try:
        yield
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _measure(plan: Plan, site: Site, watching: Callable[[Running], None]) -> Result:
    running = Running(site.strategy, time.monotonic() + _HEAD_START)
    for child in (site.dependency, site.service, site.load):
        child.say(start=running.start)
    watching(running)
    with _first_of_group():
        async with asyncio.TaskGroup() as group:
            group.create_task(_watch_guards(site.service, running))
            group.create_task(_watch_load(site.load, running))
    return Result(
        site.strategy,
        score(plan, running.samples, running.ticks, running.lag),
        series(plan, running.samples),
        running.ticks,
    )


async def _watch_guards(service: Child, running: Running) -> None:
    while "done" not in (message := await service.hear()):
        running.ticks.append(Tick(**message))


async def _watch_load(load: Child, running: Running) -> None:
    while "lag" not in (message := await load.hear()):
        running.samples += (Sample(*sample) for sample in message["samples"])
    running.samples += (Sample(*sample) for sample in message["samples"])
    running.lag += message["lag"]
