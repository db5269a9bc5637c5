"""One invocation of ``hastack demo``: display, experiment, files, and the service that stays."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require

from . import _workload
from ._document import document
from ._report import page
from ._run import experiment
from ._table import final, live
from ._trace import read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console
    from rich.live import Live

    from ._run import Result, Running, Site
    from ._strategies import Strategy
    from ._workload import Plan
else:
    Console = require("rich.console", extra="cli").Console
    Live = require("rich.live", extra="cli").Live


class Session:
    """Runs the experiment and tells people about it.

    Args:
        plan: The experiment.
        strategies: Which ones, in order.
        trace: Access log whose arrivals are replayed; ``None`` for Poisson arrivals.
        out: Directory for the report and the JSON file; made when missing.
        as_json: Print the JSON document on standard output and all else on standard error.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        strategies: Sequence[Strategy],
        trace: Path | None,
        out: Path,
        as_json: bool,
    ) -> None:
        self._plan = plan
        self._strategies = strategies
        self._out = out
        self._as_json = as_json
        self._console = Console(stderr=as_json)
        self._results: list[Result] = []
        self._running: Running | None = None
        self._arrivals, self._source = self._schedule(trace)

    def _schedule(self, trace: Path | None) -> tuple[list[float], str]:
        plan = self._plan
        if trace is None:
            arrivals = _workload.poisson(plan.rate, plan.duration, plan.seed)
            return arrivals, f"Poisson arrivals, seed {plan.seed}"
        found = read(trace)
        arrivals = _workload.replay(
            found.stamps, found.resolution, rate=plan.rate, duration=plan.duration, seed=plan.seed
        )
        return arrivals, f"arrival times of {trace.name} ({found.description})"

    async def run(self, *, serve: bool, port: int) -> None:
        """Run everything; with ``serve``, return only after Ctrl-C."""
        running = experiment(
            self._plan,
            self._strategies,
            self._arrivals,
            watching=self._watching,
            finished=self._finished,
            port=port,
        )
        async with AsyncExitStack() as stack:
            with self._display() as display:
                refreshing = asyncio.create_task(self._refresh(display))
                try:
                    site = await stack.enter_async_context(running)
                finally:
                    refreshing.cancel()
            self._publish()
            if serve:
                await self._serve(site)

    def _display(self) -> Live:
        # Not refreshed by a thread of its own: it would compete with the generator at random.
        return Live(console=self._console, auto_refresh=False, transient=True)

    async def _refresh(self, display: Live) -> None:
        while self._console.is_terminal:
            table = live(self._plan, self._strategies, self._results, self._running)
            display.update(table, refresh=True)
            await asyncio.sleep(0.25)

    def _watching(self, running: Running) -> None:
        self._running = running

    def _finished(self, result: Result) -> None:
        self._results.append(result)
        self._running = None
        if not self._console.is_terminal:
            score = result.score
            self._console.print(f"{result.strategy.title}: {score.goodput:.1f}/s in time")

    def _publish(self) -> None:
        """Write both files, then say everything once."""
        result = document(self._plan, self._results, source=self._source)
        self._out.mkdir(parents=True, exist_ok=True)
        (self._out / "demo.json").write_text(_dump(result), encoding="utf-8")
        (self._out / "demo.html").write_text(page(result), encoding="utf-8")
        if self._as_json:
            print(_dump(result))
        else:
            self._console.print(final(self._plan, self._results))
        self._console.print(f"Report: {self._out / 'demo.html'}", soft_wrap=True)

    async def _serve(self, site: Site) -> None:
        base = f"http://127.0.0.1:{site.port}"
        self._console.print(f"Serving {site.strategy.title} at {base}/order until Ctrl-C:")
        for path in ("/healthz", "/readyz", "/metrics"):
            self._console.print(f"  {base}{path}")
        loop = asyncio.get_running_loop()
        stopping = asyncio.create_task(site.service.hear())  # ends only when the service does
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, stopping.cancel)
        try:
            await asyncio.wait([stopping])
            if not stopping.cancelled():
                stopping.result()
        finally:
            for sign in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(sign)


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, allow_nan=False)
