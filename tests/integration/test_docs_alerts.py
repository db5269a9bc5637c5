"""The alerts of docs/operations.md, as Prometheus's own promtool sees them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")

CASES = {  # alert -> series that must fire it, with the labels that the page has
    "BreakerKeepsOpening": [
        ('{event="hastack.breaker_changed", name="db", new="open", old="closed"}', "1+1x40"),
    ],
    "RetriesBecomeTraffic": [('{event="hastack.retry_scheduled", name="again"}', "0+1200x40")],
    "ConfigurationHasMistakes": [('{event="hastack.config_reload_failed"}', "0x24 1x20")],
    "InstanceNotOffered": [('{event="hastack.instance_evicted", reason="lost"}', "1x40")],
    "RegistryIsStale": [
        ('{event="hastack.watch_stale"}', "2x40"),
        ('{event="hastack.watch_fresh"}', "1x40"),
    ],
    "PluginMisbehaves": [('{event="hastack.plugin_trapped"}', "0x24 1x20")],
    "TelemetryLost": [
        ('hastack_observe_units_total{exporter="c", state="dropped", reason="x"}', "0+1x40"),
    ],
    "TelemetryWaits": [
        ('hastack_observe_waiting{exporter="c", state="queued"}', "90000x40"),
        ('hastack_observe_waiting{exporter="c", state="spilled"}', "20000x40"),
    ],
    "ComponentFailed": [
        ('{event="hastack.component_failed", component="db", name="shop"}', "0x24 1x20")
    ],
}
QUIET = [  # what must fire nothing: it went, and it came back
    ('{event="hastack.instance_evicted", instance="b"}', "1x40"),
    ('{event="hastack.instance_restored", instance="b"}', "1x40"),
    ('{event="hastack.watch_stale", instance="b"}', "1x40"),
    ('{event="hastack.watch_fresh", instance="b"}', "1x40"),
    ('{event="hastack.breaker_changed", name="db", new="open", instance="b"}', "1x40"),
]


def rules(folder: Path) -> Path:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    path = folder / "rules.yml"
    path.write_text(page.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    return path


def promtool(*arguments: str | Path) -> None:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *map(str, arguments)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    promtool("check", "rules", rules(tmp_path))


def line(series: tuple[str, str]) -> str:
    """One of the series of a test."""
    labels, values = series
    name = "hastack_events_total" if labels.startswith("{") else ""
    return f"      - series: '{name}{labels}'\n        values: '{values}'\n"


def fires(alert: str, series: list[tuple[str, str]], at: str = "30m") -> str:
    """A test for promtool: of these series exactly this alert is there, or none."""
    there = f"count(ALERTS{{alertname=\"{alert}\", alertstate='firing'}})"
    return (
        "  - interval: 1m\n    input_series:\n"
        + "".join(map(line, series))
        + f"    promql_expr_test:\n      - expr: {there}\n        eval_time: {at}\n"
        + "        exp_samples:\n          - labels: '{}'\n            value: 1\n"
    )


def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    path = rules(tmp_path)
    known = set(re.findall(r"- alert: (\w+)", path.read_text(encoding="utf-8")))
    assert known == set(CASES)
    cases = [fires(alert, CASES[alert] + QUIET) for alert in CASES]
    quiet = "".join(map(line, QUIET))
    cases.append(
        f"  - interval: 1m\n    input_series:\n{quiet}    promql_expr_test:\n"
        "      - expr: count(ALERTS)\n        eval_time: 30m\n        exp_samples: []\n"
    )
    test = tmp_path / "test.yml"
    test.write_text(f"rule_files: [{path}]\nevaluation_interval: 1m\ntests:\n" + "".join(cases))
    promtool("test", "rules", test)
