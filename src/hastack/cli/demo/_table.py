"""What the terminal shows: one row per strategy while it runs, and the comparison at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hastack._core._extras import require

from ._score import ACCEPTED, BINS, OK, percentile
from ._verdict import HEADLINES, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text

    from ._run import Result, Running
    from ._strategies import Strategy
    from ._workload import Plan
else:
    Table = require("rich.table", extra="cli").Table
    Text = require("rich.text", extra="cli").Text
    Group = require("rich.console", extra="cli").Group

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = BINS  # characters of a sparkline: one per point of the charts
_COLUMNS = (
    *("strategy", "goodput\n/s", "p50\nms", "p99\nms", "breaker\nright", "false\nopen"),
    *("missed\nopen", "shed", "failed", "late"),
)
_STATE_STYLE = {"closed": "green", "half-open": "yellow", "open": "red"}


def live(
    plan: Plan, strategies: Sequence[Strategy], done: Sequence[Result], now: Running | None
) -> RenderableType:
    """The table of the moment: finished strategies, the running one, those to come."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("strategy", min_width=16)
    table.add_column("answered in time, over time", width=_WIDTH)
    table.add_column("goodput/s", justify="right", min_width=9)
    table.add_column("p99 ms", justify="right", min_width=7)
    table.add_column("breaker", min_width=9)
    results = {result.strategy.name: result for result in done}
    for strategy in strategies:
        if strategy.name in results:
            table.add_row(strategy.title, *_finished(plan, results[strategy.name]))
        elif now is not None and now.strategy is strategy:
            table.add_row(Text(strategy.title, style="bold"), *_running(plan, now))
        else:
            table.add_row(Text(strategy.title, style="dim"))
    return Group(table, Text(_caption(plan), style="dim"))


def _caption(plan: Plan) -> str:
    start, end = plan.brownout
    return (
        f"capacity {plan.capacity:.0f}/s, load {plan.rate:.0f}/s for {plan.duration:g} s; "
        f"brown-out from {start:.1f} s to {end:.1f} s"
    )


def _finished(plan: Plan, result: Result) -> tuple[RenderableType, ...]:
    score = result.score
    return (
        _sparkline(plan, result.series[OK]),
        f"{score.goodput:.0f}",
        milliseconds(score.p99, plan),
        f"{score.accuracy.share:.0%} right",
    )


def _running(plan: Plan, now: Running) -> tuple[RenderableType, ...]:
    at = time.monotonic() - now.start
    width = plan.duration / BINS
    rates = [0.0] * min(BINS, max(0, int(at / width)))
    recent: list[float] = []
    answered = 0
    for sample in now.samples:
        number = int(sample.due / width)
        answered += sample.outcome == OK
        if sample.outcome == OK and number < len(rates):
            rates[number] += 1 / width
        if sample.outcome in ACCEPTED and sample.due > at - 2 * plan.beat:
            recent.append(sample.latency)
    state = now.ticks[-1].state if now.ticks else "closed"
    return (
        _sparkline(plan, rates),
        f"{answered / min(plan.duration, max(plan.beat, at)):.0f}",
        milliseconds(percentile(recent, 0.99), plan) if recent else "-",
        Text(state, style=_STATE_STYLE[state]),
    )


def _sparkline(plan: Plan, rates: Sequence[float]) -> Text:
    """One character per bin; the brown-out in another colour."""
    text = Text()
    width = plan.duration / BINS
    for number, rate in enumerate(rates):
        level = round(min(1.0, rate / plan.capacity) * (len(_BARS) - 1))
        sick = plan.sick((number + 0.5) * width)
        text.append(_BARS[level], style="red" if sick else "cyan")
    return text


def milliseconds(seconds: float, plan: Plan) -> str:
    """A latency for people; what was cut off at the client's patience says so."""
    text = f"{seconds * 1000:.0f}"
    return f">{text}" if seconds >= plan.patience else text


def final(plan: Plan, results: Sequence[Result]) -> RenderableType:
    """The comparison, and how it stands against the headline."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for title in _COLUMNS:
        table.add_column(title, justify="left" if title == "strategy" else "right", no_wrap=True)
    best = max(result.score.goodput for result in results)
    for result in results:
        table.add_row(
            result.strategy.title,
            *_cells(plan, result),
            style="bold" if result.score.goodput == best else "",
        )
    caption = Text(_caption(plan), style="dim")
    return Group(Text(), table, caption, Text(), *_notes(results), *_headlines(results))


def _cells(plan: Plan, result: Result) -> tuple[str, ...]:
    score = result.score
    judged = max(1, score.accuracy.judged)
    return (
        f"{score.goodput:.1f}",
        milliseconds(score.p50, plan),
        milliseconds(score.p99, plan),
        f"{score.accuracy.share:.0%}",
        f"{score.accuracy.false_open / judged:.0%}",
        f"{score.accuracy.missed_open / judged:.0%}",
        *(f"{count / max(1, score.sent):.0%}" for count in (score.shed, score.failed, score.late)),
    )


def _notes(results: Sequence[Result]) -> list[Text]:
    worst = max(result.score.lag_p99 for result in results)
    if worst <= 0.02:
        return []
    return [
        Text(
            f"The machine was busy: the generator itself was up to {worst * 1000:.0f} ms late "
            "(p99). Take the latencies with care.",
            style="yellow",
        )
    ]


def _headlines(results: Sequence[Result]) -> list[Text]:
    lines = []
    for headline in HEADLINES:
        ours = compare(headline, {result.strategy.name: result.score for result in results})
        if ours is not None:
            lines.append(
                Text(
                    f"hastack against {headline.title}: goodput {ours.goodput:.2f}x "
                    f"(aim {headline.goodput:.2f}x), p99 {ours.p99:.2f}x "
                    f"(aim {headline.p99:.2f}x), breaker {ours.points:+.0f} points "
                    f"(aim {headline.points:+.0f})"
                )
            )
    return lines
