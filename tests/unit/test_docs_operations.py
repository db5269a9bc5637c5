"""docs/operations.md knows every event and every metric that there is, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from hastack.observe._event_mapping import _FAILED, _ONLY_COUNTED, _WARNED, event_name

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def event_classes() -> set[str]:
    """Names of all classes that are published, by their sources: importing takes every extra."""
    bases: dict[str, set[str]] = {}
    for path in (ROOT / "src/hastack").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                names = {ast.unparse(base).removeprefix("events.") for base in node.bases}
                bases.setdefault(node.name, set()).update(names)
    found = {"Event"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found - {"Event", "PluginEvent"}


def rows(section: str) -> list[list[str]]:
    """The cells of a section's first table, without its head."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    table = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table[2:]]


def test_the_table_of_events_is_complete() -> None:
    listed = [cells[0].strip("`") for cells in rows("What each event means")]
    assert sorted(listed) == sorted(event_classes())


def test_the_table_of_events_has_their_names_and_severities() -> None:
    for event, name, record, *_ in rows("What each event means"):
        kind = event.strip("`")
        assert event_name(kind) == f"hastack.{name.strip('`')}"
        if kind in _ONLY_COUNTED:
            assert not record
        elif _FAILED.search(kind):
            assert record == "ERROR", kind
        elif _WARNED.search(kind):
            assert record == "WARN", kind
        else:
            assert record.partition(" ")[0] == ("WARN" if kind == "BreakerChanged" else "INFO"), (
                kind
            )


def test_the_table_of_metrics_is_complete() -> None:
    listed = {cells[0].strip("`") for cells in rows("What each metric means")}
    bridge = (ROOT / "src/hastack/observe/_bridge.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"(hastack\.(?:observe\.[a-z_.]+|events))"', bridge))
    exported = set()
    for name in named:
        metric = name.replace(".", "_")
        exported |= {
            each for each in listed if each in {metric, f"{metric}_total", f"{metric}_seconds"}
        }
    assert len(exported) == len(named), named
    health = (ROOT / "src/hastack/_health_endpoints.py").read_text(encoding="utf-8")
    exported |= set(re.findall(r'"(hastack_[a-z_]+)"', health))
    assert listed == exported | {"hastack_<event>_total"}


def test_alerts_ask_for_metrics_and_events_that_there_are() -> None:
    alerts = PAGE.partition("```yaml\n")[2].partition("```")[0]
    metrics = {cells[0].strip("`") for cells in rows("What each metric means")}
    assert set(re.findall(r"hastack_[a-z_]+", alerts)) <= metrics
    events = {f"hastack.{cells[1].strip('`')}" for cells in rows("What each event means")}
    assert set(re.findall(r"hastack\.[a-z_]+", alerts)) <= events
