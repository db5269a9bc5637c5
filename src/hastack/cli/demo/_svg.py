"""The report's charts as SVG text. All numbers come in as the JSON document holds them."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 6.0, 8.0, 18.0
_STACK = ("ok", "late", "failed", "shed")
_FLOOR = 0.01  # seconds; bottom of the logarithmic latency axis


class Frame:
    """A plot with a time axis below, a value axis on the left, and the brown-out shaded.

    Args:
        document: The whole result.
        width: Outer width in units of the view box.
        height: Outer height.
        top: Value at the upper edge.
        bottom: Value at the lower edge; above zero the axis is logarithmic.
        shaded: Whether the brown-out is shaded.
    """

    def __init__(
        self,
        document: dict[str, Any],
        *,
        width: float,
        height: float,
        top: float,
        bottom: float = 0.0,
        shaded: bool = True,
    ) -> None:
        self._duration = float(document["plan"]["duration"])
        self._width, self._height = width, height
        self._low, self._high = _axis(bottom, bottom), _axis(top, bottom)
        self._bottom = bottom
        self._parts: list[str] = []
        if shaded:
            start, end = document["brownout"]
            self.block("sick", start, end, self.floor, _TOP)

    @property
    def floor(self) -> float:
        """Vertical position of the lower edge."""
        return self._height - _BOTTOM

    def x(self, at: float) -> float:
        """Horizontal position of a time."""
        return _LEFT + at / self._duration * (self._width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Vertical position of a value; what is outside of the axis sits on its edge."""
        share = (_axis(value, self._bottom) - self._low) / (self._high - self._low)
        return self.floor - max(0.0, min(1.0, share)) * (self.floor - _TOP)

    def block(
        self, css: str, start: float, end: float, low: float, high: float, title: str = ""
    ) -> None:
        """A rectangle from time to time and from height to height."""
        x = self.x(start)
        told = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(
            f'<rect class="{css}" x="{x:.1f}" y="{high:.1f}" width="{self.x(end) - x:.1f}" '
            f'height="{max(0.0, low - high):.1f}">{told}</rect>'
        )

    def scale(self, labels: Iterable[tuple[float, str]]) -> None:
        """Grid lines with labels on the left, and seconds below."""
        for value, label in labels:
            y = self.y(value)
            self._parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{self._width - _RIGHT}" '
                f'y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>'
            )
        step = _step(self._duration / 5)
        for number in range(int(self._duration / step) + 1):
            at = number * step
            unit = " s" if not number else ""
            self._parts.append(
                f'<text x="{self.x(at):.1f}" y="{self._height - 4:.1f}" '
                f'text-anchor="middle">{at:g}{unit}</text>'
            )

    def mark(self, value: float, label: str) -> None:
        """A dashed line across, with its name at the right."""
        y = self.y(value)
        self._parts.append(
            f'<line class="mark" x1="{_LEFT}" x2="{self._width - _RIGHT}" y1="{y:.1f}" '
            f'y2="{y:.1f}"/><text x="{self._width - _RIGHT}" y="{y - 4:.1f}" '
            f'text-anchor="end">{escape(label)}</text>'
        )

    def line(self, css: str, at: Sequence[float], values: Sequence[float | None]) -> None:
        """A line through the values; it breaks where there is none."""
        path, pen_up = [], True
        for moment, value in zip(at, values, strict=True):
            if value is None:
                pen_up = True
                continue
            path.append(f"{'M' if pen_up else 'L'}{self.x(moment):.1f} {self.y(value):.1f}")
            pen_up = False
        self._parts.append(f'<path class="{css}" d="{" ".join(path)}"/>')

    def text(self, x: float, y: float, text: str) -> None:
        """A word in the plot, right-aligned at ``x``."""
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="end">{escape(text)}</text>')

    def svg(self, label: str) -> str:
        """The finished picture; ``label`` is what a screen reader says."""
        return (
            f'<svg viewBox="0 0 {self._width:g} {self._height:g}" role="img" '
            f'aria-label="{escape(label)}">{"".join(self._parts)}</svg>'
        )


def _axis(value: float, bottom: float) -> float:
    return math.log10(max(value, bottom)) if bottom > 0.0 else value


def _step(rough: float) -> float:
    """The round number nearest above: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough)


def _grid(top: float) -> list[tuple[float, str]]:
    step = _step(top / 4)
    return [(number * step, f"{number * step:g}") for number in range(int(top / step) + 1)]


def outcomes(document: dict[str, Any], strategy: dict[str, Any]) -> str:
    """What became of the requests that arrived in each bin, stacked."""
    series = strategy["series"]
    tallest = max(
        sum(other["series"][name][number] for name in _STACK)
        for other in document["strategies"]
        for number in range(len(series["at"]))
    )
    frame = Frame(document, width=520, height=190, top=tallest * 1.02)
    frame.scale(_grid(tallest))
    half = document["plan"]["duration"] / len(series["at"]) / 2
    for number, at in enumerate(series["at"]):
        low = 0.0
        for name in _STACK:
            high = low + series[name][number]
            if high > low:
                frame.block(name, at - half * 0.86, at + half * 0.86, frame.y(low), frame.y(high))
            low = high
        words = ", ".join(f"{series[name][number]:.0f}/s {_WORDS[name]}" for name in _STACK)
        frame.block("hit", at - half, at + half, frame.floor, _TOP, f"at {at:.1f} s: {words}")
    frame.mark(document["plan"]["capacity"], "")
    return frame.svg(f"Outcomes over time, {strategy['title']}")


_WORDS = {"ok": "in time", "late": "late", "failed": "failed", "shed": "shed"}


def latency(document: dict[str, Any], strategy: dict[str, Any]) -> str:
    """Median and 99th percentile over time, on a logarithmic axis."""
    series, plan = strategy["series"], document["plan"]
    frame = Frame(document, width=330, height=190, top=plan["patience"], bottom=_FLOOR)
    frame.scale([(0.01, "10"), (0.03, "30"), (0.1, "100"), (0.3, "300"), (1.0, "1000")])
    frame.mark(plan["deadline"], "deadline")
    frame.line("p50", series["at"], series["p50"])
    frame.line("p99", series["at"], series["p99"])
    half = plan["duration"] / len(series["at"]) / 2
    for at, p50, p99 in zip(series["at"], series["p50"], series["p99"], strict=True):
        if p50 is not None:
            told = f"at {at:.1f} s: p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms"
            frame.block("hit", at - half, at + half, frame.floor, _TOP, told)
    return frame.svg(f"Latency over time, {strategy['title']}")


def limit(document: dict[str, Any], strategy: dict[str, Any]) -> str:
    """The strategy's own limit over time."""
    ticks = strategy["ticks"]
    values = [value for _, _, value in ticks if value is not None]
    top = max(values, default=1.0) * 1.15
    frame = Frame(document, width=330, height=190, top=top)
    if values:
        frame.scale(_grid(top))
        frame.line("limit", [at for at, _, _ in ticks], [value for _, _, value in ticks])
    else:
        frame.scale([])
        frame.text(frame.x(document["plan"]["duration"] / 2) + 22, 95.0, "no limit")
    return frame.svg(f"Limit over time, {strategy['title']}")


def breaker(document: dict[str, Any], strategy: dict[str, Any]) -> str:
    """Two bands: how the dependency is, and what the breaker thinks; wrong ticks below."""
    plan = document["plan"]
    start, end = document["brownout"]
    duration, tick = plan["duration"], plan["tick"]
    frame = Frame(document, width=520, height=38, top=1.0, shaded=False)
    frame.block("healthy", 0.0, start, 12, 2, "dependency healthy")
    frame.block("open", start, end, 12, 2, "dependency sick")
    frame.block("healthy", end, duration, 12, 2, "dependency healthy")
    for first, last, state in _runs(strategy["ticks"], tick):
        frame.block(_BANDS[state], first, last, 26, 16, f"breaker {state}")
    verdicts = [(at, _verdict(document, at, state), None) for at, state, _ in strategy["ticks"]]
    for first, last, verdict in _runs(verdicts, tick):
        if verdict:
            css = "grace" if verdict == _GRACE else "wrong"
            frame.block(css, first, last, 35, 30, verdict)
    return frame.svg(f"Breaker against the truth, {strategy['title']}")


_GRACE = "grace: not judged"


def _verdict(document: dict[str, Any], at: float, state: str) -> str:
    """What a tick was: in grace, wrong in one of two ways, or right (empty)."""
    start, end = document["brownout"]
    grace = document["plan"]["grace"]
    if start <= at < start + grace or end <= at < end + grace:
        return _GRACE
    sick = start <= at < end
    if sick is (state != "closed"):
        return ""
    return "missed open" if sick else "false open"


_BANDS = {"closed": "healthy", "half-open": "half", "open": "open"}


def _runs(ticks: Sequence[Sequence[Any]], tick: float) -> list[tuple[float, float, str]]:
    """Consecutive ticks of one state as one stretch."""
    runs: list[tuple[float, float, str]] = []
    for at, state, _ in ticks:
        if runs and runs[-1][2] == state:
            runs[-1] = (runs[-1][0], at + tick, state)
        else:
            runs.append((at, at + tick, state))
    return runs


def fate(strategy: dict[str, Any]) -> str:
    """One horizontal bar: the shares of all requests."""
    score = strategy["score"]
    parts, x = [], 0.0
    for name in _STACK:
        width = 300.0 * score[name] / max(1, score["sent"])
        if width:
            share = score[name] / score["sent"]
            parts.append(
                f'<rect class="{name}" x="{x:.1f}" y="0" width="{width:.1f}" height="16">'
                f"<title>{share:.1%} {_WORDS[name]}</title></rect>"
            )
        x += width
    return (
        f'<svg viewBox="0 0 300 16" role="img" '
        f'aria-label="Shares of all requests, {escape(strategy["title"])}">{"".join(parts)}</svg>'
    )


def swatch(css: str) -> str:
    """A small field of one colour for legends."""
    return f'<svg viewBox="0 0 14 10" aria-hidden="true"><rect class="{css}" width="14" height="10"/></svg>'
