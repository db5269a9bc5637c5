"""The result as one HTML page that needs nothing but itself."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from . import _svg
from ._style import CSS

if TYPE_CHECKING:
    from collections.abc import Iterable


def page(document: dict[str, Any]) -> str:
    """The report.

    Args:
        document: What `hastack.cli.demo._document.document` returns.
    """
    strategies = "".join(_strategy(document, each) for each in document["strategies"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>hastack demo</title><style>{CSS}</style></head><body>"
        f"{_header(document)}{_comparison(document)}{_headlines(document)}{_legend()}"
        f"{strategies}{_definitions(document)}</body></html>\n"
    )


def _header(document: dict[str, Any]) -> str:
    plan = document["plan"]
    start, end = document["brownout"]
    times = plan["rate"] / plan["capacity"]
    best = max(document["strategies"], key=lambda each: each["score"]["goodput"])
    return (
        "<header><h1>One overload, one brown-out, one strategy at a time</h1>"
        f'<p class="lead">A service gets {plan["rate"]:.0f} requests a second, '
        f"{times:.1f} times what the dependency behind it can answer "
        f"({plan['capacity']:.0f} a second). From {start:.1f} s to {end:.1f} s the dependency "
        f"browns out: {plan['sick_capacity']:.0%} of its capacity is left and "
        f"{plan['sick_errors']:.0%} of its answers are errors. A client has no use for an "
        f"answer after {plan['deadline']:g} s.</p>"
        f"<p>Most requests answered in time: <strong>{escape(best['title'])}</strong>, "
        f"{best['score']['goodput']:.1f} a second.</p></header>"
    )


def _comparison(document: dict[str, Any]) -> str:
    each_score = [each["score"] for each in document["strategies"]]
    most = max(score["goodput"] for score in each_score)
    rows = "".join(_row(document, each, most) for each in document["strategies"])
    return (
        '<section><h2>In short</h2><div class="wide"><table><thead><tr><th></th>'
        '<th class="fate">all requests: in time, late, failed, shed</th>'
        "<th>in time<br>per second</th><th>p50<br>ms</th><th>p99<br>ms</th>"
        "<th>breaker<br>right</th><th>false<br>open</th><th>missed<br>open</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _row(document: dict[str, Any], strategy: dict[str, Any], most: float) -> str:
    score = strategy["score"]
    right = score["accuracy"]
    judged = max(1, right["judged"])
    best = ' class="best"' if score["goodput"] == most else ""
    return (
        f'<tr><th>{escape(strategy["title"])}</th><td class="fate">{_svg.fate(strategy)}</td>'
        f"<td{best}>{score['goodput']:.1f}</td>"
        f"<td>{_milliseconds(document, score['p50'])}</td>"
        f"<td>{_milliseconds(document, score['p99'])}</td><td>{right['share']:.0%}</td>"
        f"<td>{right['false_open'] / judged:.0%}</td>"
        f"<td>{right['missed_open'] / judged:.0%}</td></tr>"
    )


def _milliseconds(document: dict[str, Any], seconds: float) -> str:
    text = f"{seconds * 1000:,.0f}"
    return f"&gt;{text}" if seconds >= document["plan"]["patience"] else text


def _headlines(document: dict[str, Any]) -> str:
    rows = ""
    for each in document["headlines"]:
        aim, ours = each["aim"], each["measured"]
        if ours is None:
            continue
        rows += (
            f"<tr><th>{escape(each['title'])}</th>"
            f"<td>{_times(ours['goodput'])}</td><td>{_times(aim['goodput'])}</td>"
            f"<td>{_times(ours['p99'])}</td><td>{_times(aim['p99'])}</td>"
            f"<td>{ours['points']:+.0f}</td><td>{aim['points']:+.0f}</td></tr>"
        )
    if not rows:
        return ""
    return (
        '<section><h2>hastack against the static limits</h2><div class="wide"><table><thead><tr>'
        "<th>against</th><th>goodput<br>measured</th><th>aim</th><th>p99<br>measured</th>"
        "<th>aim</th><th>breaker points<br>measured</th><th>aim</th></tr></thead>"
        f'<tbody>{rows}</tbody></table></div><p class="note">The aims are ratios that the '
        "project set itself without naming a workload; the measured ratios belong to this one."
        "</p></section>"
    )


def _times(ratio: float | None) -> str:
    return "∞" if ratio is None else f"{ratio:.2f}x"


def _legend() -> str:
    entries = (
        ("ok", "in time"),
        ("late", "late or never"),
        ("failed", "failed"),
        ("shed", "shed: refused at once by a guard"),
        ("sick", "brown-out"),
    )
    bands = (
        ("healthy", "healthy; breaker closed"),
        ("half", "breaker half-open"),
        ("open", "sick; breaker open"),
        ("wrong", "breaker wrong"),
        ("grace", "not judged"),
    )
    return (
        "<section><h2>Over time</h2>"
        f'<ul class="legend"><li>Requests:</li>{_entries(entries)}</ul>'
        f'<ul class="legend"><li>Bands below:</li>{_entries(bands)}</ul></section>'
    )


def _entries(entries: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<li>{_svg.swatch(css)}{escape(text)}</li>" for css, text in entries)


def _strategy(document: dict[str, Any], strategy: dict[str, Any]) -> str:
    unit = strategy["unit"] or "none"
    return (
        f'<section class="strategy" id="{escape(strategy["name"])}"><header>'
        f"<h3>{escape(strategy['title'])}</h3><p>{escape(strategy['summary'])}</p></header>"
        '<div class="charts"><figure><figcaption>requests a second, by arrival; dashed: '
        f"capacity</figcaption>{_svg.outcomes(document, strategy)}"
        "<figcaption>dependency above, breaker below</figcaption>"
        f"{_svg.breaker(document, strategy)}</figure>"
        "<figure><figcaption>latency of accepted, ms: p99 bold, p50 grey</figcaption>"
        f"{_svg.latency(document, strategy)}</figure>"
        f"<figure><figcaption>limit, {escape(unit)}</figcaption>"
        f"{_svg.limit(document, strategy)}</figure></div></section>"
    )


def _definitions(document: dict[str, Any]) -> str:
    plan = document["plan"]
    lag = max(each["score"]["lag_p99"] for each in document["strategies"]) * 1000
    entries = {
        "load": (
            f"{document['source']}; the same arrivals for every strategy. Open loop: requests "
            "leave at their time whether or not earlier ones were answered, and latency counts "
            f"from that time. The generator itself was {lag:.1f} ms late at most (p99)."
        ),
        "in time": f"answered with success within {plan['deadline']:g} s of its arrival",
        "late": f"anything else after {plan['deadline']:g} s, or nothing at all",
        "failed": "an error within that time that was not a refusal",
        "shed": "refused by a guard with 429 or 503",
        "p50, p99": (
            "of the accepted: all that was answered in time or late; latencies are cut off at "
            f"{plan['patience']:g} s, when the client stops listening"
        ),
        "breaker right": (
            f"share of {plan['tick'] * 1000:.0f} ms ticks in which the breaker was closed while "
            "the dependency was healthy, or not closed while it was sick. Half-open counts as "
            f"not closed. The {plan['grace']:.3g} s after each change are not judged. False open "
            "and missed open are the two ways to be wrong; without a breaker it counts as "
            "always closed."
        ),
        "dependency": (
            f"{plan['workers']} workers, {plan['service_time'] * 1000:.0f} ms a call on average, "
            f"at most {plan['queue']} calls waiting; seed {plan['seed']}"
        ),
        "software": f"hastack {document['hastack']}, Python {document['python']}",
    }
    items = "".join(
        f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in entries.items()
    )
    return f"<section><h2>What the words mean</h2><dl>{items}</dl></section>"
