"""Time callables against each other in one process and print a table with ratios."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable


def ns_per_call(call: Callable[[], object], *, number: int = 20_000, rounds: int = 7) -> float:
    """Median over ``rounds`` of the mean cost of ``number`` calls, in nanoseconds.

    The empty loop around the calls is measured too and taken off.
    """
    return _median(lambda n: _loop(call, n), number, rounds) - _median(_empty, number, rounds)


async def ns_per_await(
    call: Callable[[], Awaitable[object]], *, number: int = 20_000, rounds: int = 7
) -> float:
    """The same for ``await call()`` on the running loop."""
    costs = []
    for _ in range(rounds):
        gc.collect()
        start = time.perf_counter_ns()
        for _ in range(number):
            await call()
        costs.append((time.perf_counter_ns() - start) / number)
    return statistics.median(costs) - _median(_empty, number, rounds)


def _loop(call: Callable[[], object], number: int) -> None:
    for _ in range(number):
        call()


def _empty(number: int) -> None:
    for _ in range(number):
        pass


def _median(run: Callable[[int], None], number: int, rounds: int) -> float:
    costs = []
    for _ in range(rounds):
        gc.collect()
        gc.disable()
        start = time.perf_counter_ns()
        run(number)
        costs.append((time.perf_counter_ns() - start) / number)
        gc.enable()
    return statistics.median(costs)


def cpu_ns_per_call(
    call: Callable[[], object],
    *,
    number: int = 1_000,
    rounds: int = 25,
    clock: Callable[[], int] = time.thread_time_ns,
) -> float:
    """The least over ``rounds`` of what a call costs this thread; for machines that have other work.

    Waiting for a processor does not count, what others leave in its caches does.
    """
    costs = []
    for _ in range(rounds):
        gc.collect()
        gc.disable()
        start = clock()
        _loop(call, number)
        middle = clock()
        _empty(number)
        costs.append((2 * middle - start - clock()) / number)
        gc.enable()
    return min(costs)


def table(
    title: str, rows: dict[str, float], *, base: str, unit: str = "ns", what: str = "medians"
) -> None:
    """Print ``rows`` as Markdown; the last column says how many times ``base`` each one costs."""
    print(f"\n### {title}\n")
    print(f"Python {sys.version.split()[0]}; {what}.\n")
    print(f"| | {unit} | x {base} |")
    print("|---|---:|---:|")
    for name, value in rows.items():
        print(f"| {name} | {value:,.0f} | {value / rows[base]:.2f} |")
