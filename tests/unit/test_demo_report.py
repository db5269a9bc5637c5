"""JSON document, HTML page and tables, drawn from made-up results."""

import io
import json
import re
import time
from html.parser import HTMLParser

import pytest
from rich.console import Console

from hastack.cli.demo import _document, _svg, _table
from hastack.cli.demo._report import page
from hastack.cli.demo._run import Result, Running
from hastack.cli.demo._score import Sample, Tick, score, series
from hastack.cli.demo._strategies import Strategy
from hastack.cli.demo._workload import Plan, poisson

PLAN = Plan(duration=9.0)
STATES = ["closed"] * 32 + ["open"] * 20 + ["half-open"] * 3 + ["closed"] * 35


def strategy(name, title="A <title> & more", unit="requests/s"):
    return Strategy(name=name, title=title, summary="Made up.", unit=unit, build=lambda plan: None)


def result(name="hastack", outcomes=("ok", "shed"), limit=160.0, **more):
    arrivals = poisson(PLAN.rate, PLAN.duration, 1)
    samples = [
        Sample(due, 0.05 if n % 7 else 2.0, outcomes[n % len(outcomes)])
        for n, due in enumerate(arrivals)
    ]
    ticks = [Tick(n / 10, state, limit) for n, state in enumerate(STATES)]
    return Result(
        strategy(name, **more),
        score(PLAN, samples, ticks, [0.001]),
        series(PLAN, samples),
        ticks,
    )


def everything():
    return [
        result("unprotected", ("ok", "late", "failed"), None, title="Unprotected", unit=""),
        result("fixed-window", ("ok", "shed", "late")),
        result("token-bucket", ("shed",)),
        result("hastack", ("ok", "shed"), 17.5, unit="calls in flight"),
    ]


def document(results=None):
    return _document.document(PLAN, everything() if results is None else results, source="made up")


class Balanced(HTMLParser):
    """Fails on tags that are not closed in order, and remembers what it saw."""

    VOID = frozenset({"meta", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    return parser


def test_the_document_is_json_and_its_counts_add_up():
    found = json.loads(json.dumps(document(), allow_nan=False))
    for each in found["strategies"]:
        numbers = each["score"]
        assert numbers["sent"] == sum(numbers[n] for n in ("ok", "late", "failed", "shed"))
        assert len(each["ticks"]) == 90
    assert found["brownout"] == pytest.approx([3.0, 6.0])
    assert [each["baseline"] for each in found["headlines"]] == ["fixed-window", "token-bucket"]


def test_a_ratio_against_zero_is_null_in_json_and_infinite_for_people():
    found = document()
    assert found["headlines"][1]["measured"]["goodput"] is None
    assert "∞" in page(found)


def test_the_page_is_well_formed_and_has_every_chart():
    html = page(document())
    parser = parsed(html)
    labels = re.findall(r'aria-label="([^"]*)"', html)
    for what in ("Outcomes over time", "Latency over time", "Limit over time", "Breaker against"):
        assert sum(label.startswith(what) for label in labels) == 4, what
    assert "A <title> & more" in "".join(parser.text), "titles are escaped"


def test_the_page_needs_nothing_but_itself():
    html = page(document())
    assert not {"script", "link", "img", "iframe"} & set(parsed(html).seen)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|src=|href=", html)
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_no_number_in_the_page_is_nan_or_infinite():
    assert not re.search(r'"(nan|inf|-inf)', page(document()))


def test_headlines_are_left_out_when_the_baselines_did_not_run():
    html = page(document([result("hastack")]))
    assert "against the static limits" not in html
    assert "against the static limits" in page(document())


def test_wrong_ticks_are_marked_and_grace_is_not():
    found = document()
    bands = _svg.breaker(found, found["strategies"][0])
    # Open from 3.2 s to 5.2 s, half-open to 5.5 s, closed from there: sick but closed until 6 s.
    wrong = re.findall(r'class="wrong" .*? width="([^"]*)".*?<title>(.*?)<', bands)
    tenth = (520 - 34 - 6) / 90
    assert wrong == [(f"{5 * tenth:.1f}", "missed open")]
    grace = re.findall(r'class="grace" .*? width="([^"]*)"', bands)
    assert grace == [f"{10 * tenth:.1f}"] * 2
    assert bands.count("breaker half-open") == 1


def test_a_line_breaks_where_there_is_no_value():
    frame = _svg.Frame(document(), width=300, height=100, top=10.0)
    frame.line("p99", [0.0, 1.0, 2.0, 3.0], [1.0, 2.0, None, 3.0])
    path = re.search(r'd="([^"]*)"', frame.svg("x")).group(1)
    assert [step[0] for step in path.split() if step[0] in "ML"] == ["M", "L", "M"]


def test_values_outside_of_the_axis_sit_on_its_edge():
    frame = _svg.Frame(document(), width=300, height=100, top=2.0, bottom=0.01)
    assert frame.y(0.001) == frame.y(0.01) == frame.floor
    assert frame.y(99.0) == frame.y(2.0)
    assert frame.y(0.1) > frame.y(1.0)


@pytest.mark.parametrize(
    ("rough", "step"), [(0.7, 1.0), (1.8, 2.0), (3.0, 5.0), (7.0, 10.0), (80.0, 100.0)]
)
def test_axis_steps_are_round(rough, step):
    assert _svg._step(rough) == pytest.approx(step)


def printed(renderable, width=80):
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(renderable)
    return out.getvalue()


def test_the_final_table_fits_a_terminal_and_says_everything():
    text = printed(_table.final(PLAN, everything()))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for column in ("goodput", "p50", "p99", "breaker", "false", "missed", "shed", "failed", "late"):
        assert column in text
    assert ">2000" in text, "latencies that were cut off say so"
    flat = " ".join(text.split())
    assert "aim 1.51x" in flat
    assert "aim 0.48x" in flat
    assert "aim +18" in flat
    assert "aim 1.33x" in flat
    assert "busy" not in text


def test_a_late_generator_is_reported():
    slow = result()
    late = score(PLAN, [], [], [0.05] * 10)
    text = printed(_table.final(PLAN, [Result(slow.strategy, late, slow.series, slow.ticks)]))
    assert "generator itself was up to 50 ms late" in " ".join(text.split())


def test_the_live_table_shows_what_is_done_what_runs_and_what_is_to_come():
    done = [result("unprotected", ("ok",), title="Unprotected")]
    running = Running(
        strategy("fixed-window", title="Running now"),
        time.monotonic() - 2.0,
        samples=[Sample(n / 100, 0.05, "ok" if n % 2 else "shed") for n in range(200)],
    )
    waiting = strategy("hastack", title="To come")
    order = [done[0].strategy, running.strategy, waiting]
    text = printed(_table.live(PLAN, order, done, running), width=100)
    assert "Unprotected" in text
    assert "Running now" in text
    assert "To come" in text
    assert "% right" in text
    running.ticks.append(Tick(0.0, "half-open", None))
    running.samples.clear()
    assert "half-open" in printed(_table.live(PLAN, order, done, running), width=100)


def test_without_an_installed_package_the_version_says_so(monkeypatch):
    def missing(_name):
        raise _document.metadata.PackageNotFoundError

    monkeypatch.setattr(_document.metadata, "version", missing)
    assert "source" in document()["hastack"]
