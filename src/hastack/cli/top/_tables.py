"""What ``hastack top`` shows of a snapshot: which sections, columns and orders there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from ._words import clean, number, percent, rate, seconds, spark

if TYPE_CHECKING:
    from collections.abc import Callable

    Row: TypeAlias = dict[str, Any]

__all__ = ("SECTIONS", "SORTS", "VIEWS", "Column", "Section", "ordered")

GOOD, WARN, BAD, IDLE = "good", "warn", "bad", "idle"

VIEWS: Final = ("all", "guards", "registry", "telemetry", "kernel and plugins", "events")
SORTS: Final = ("trouble", "name", "allowed", "refused")


@attrs.frozen
class Column:
    """One column.

    Attributes:
        head: Its heading.
        text: How a row's value is written.
        right: Whether it is a number.
        least: Columns of the terminal below which it is left out.
    """

    head: str
    text: Callable[[Row], str]
    right: bool = False
    least: int = 0


@attrs.frozen
class Section:
    """One table.

    Attributes:
        key: Where its rows are in a snapshot.
        title: Above it.
        view: In which view it is shown, besides ``all``.
        level: How a row is: good, warn, bad or idle.
        state: That in a word.
        columns: What follows name and state.
        name: How a row is called.
    """

    key: str
    title: str
    view: str
    level: Callable[[Row], str]
    state: Callable[[Row], str]
    columns: tuple[Column, ...]
    name: Callable[[Row], str] = lambda row: clean(row.get("name", "?"), 32)


_BREAKER = {"closed": GOOD, "open": BAD, "forced open": BAD, "half-open": WARN}
_LIMITER = {"open": GOOD, "limiting": WARN, "queueing": WARN, "shadow": WARN}
_VERDICT = {"pass": GOOD, "degraded": WARN, "fail": BAD}
_WORDS = {"open": "passing"}


def _right(head: str, text: Callable[[Row], str]) -> Column:
    return Column(head, text, right=True)


def _refused(row: Row) -> str:
    return rate(row.get("rejected_rate"))


def _dropped(row: Row) -> int:
    return sum(row["dropped"].values())


def _health_level(row: Row) -> str:
    return BAD if row["live"] == "fail" else _VERDICT.get(row["ready"], IDLE)


def _exporter_level(row: Row) -> str:
    return BAD if row["lost_rate"] else WARN if row["spilled"] else GOOD


def _service_level(row: Row) -> str:
    states = {each["state"] for each in row["instances"]}
    return BAD if states & {"lost", "unhealthy"} else GOOD if row["complete"] else WARN


def _listed(texts: list[str]) -> str:
    return clean(", ".join(texts), 70)


def _instances(row: Row) -> str:
    return _listed([f"{each['address']} {each['state']}" for each in row["instances"]])


SECTIONS: Final = (
    Section(
        "lifecycles",
        "Lifecycle",
        "guards",
        lambda row: GOOD if row["phase"] == "serving" else WARN,
        lambda row: str(row["phase"]).replace("_", " "),
        (Column("components", lambda row: _listed(row["components"])),),
    ),
    Section(
        "health",
        "Health",
        "guards",
        _health_level,
        lambda row: f"live {row['live']}, ready {row['ready']}",
        (Column("against it", lambda row: _listed(row["failing"])),),
    ),
    Section(
        "breakers",
        "Circuit breakers",
        "guards",
        lambda row: _BREAKER.get(row["state"], IDLE),
        lambda row: str(row["state"]),
        (
            _right("failing", lambda row: percent(row["failure_rate"])),
            _right("calls/s", lambda row: rate(row["call_rate"])),
            _right("refused/s", _refused),
            _right("next try", lambda row: seconds(row["retry_after"])),
            Column("failures over time", lambda row: spark(row["history"], high=1.0), least=100),
        ),
    ),
    Section(
        "adaptive",
        "Adaptive limits",
        "guards",
        lambda row: WARN if row["rejected_rate"] else GOOD,
        lambda row: f"{row['in_flight']} of {row['limit']} inside",
        (
            _right("latency", lambda row: seconds(row["latency"] or None)),
            _right("allowed/s", lambda row: rate(row["allowed_rate"])),
            _right("refused/s", _refused),
            Column("limit over time", lambda row: spark(row["history"]), least=100),
            Column("latency over time", lambda row: spark(row["latency_history"]), least=120),
        ),
    ),
    Section(
        "limiters",
        "Limiters",
        "guards",
        lambda row: _LIMITER.get(row["state"], IDLE),
        lambda row: str(_WORDS.get(row["state"], row["state"])),
        (
            Column(
                "limit",
                lambda row: clean(
                    f"{'' if row['limit'] is None else format(row['limit'], ',g')} {row['unit']}",
                    24,
                ).strip(),
            ),
            _right("allowed/s", lambda row: rate(row["allowed_rate"])),
            _right("refused/s", _refused),
            _right("waiting", lambda row: number(row["waiting"] or None)),
            Column("allowed over time", lambda row: spark(row["history"]), least=100),
        ),
    ),
    Section(
        "policies",
        "Retries, hedges, fallbacks",
        "guards",
        lambda row: WARN if row["rate"] else GOOD,
        lambda row: row["kind"],
        (
            _right("per s", lambda row: rate(row["rate"])),
            _right("in all", lambda row: number(row["total"])),
        ),
    ),
    Section(
        "services",
        "Registry",
        "registry",
        _service_level,
        lambda row: "complete" if row["complete"] else "incomplete",
        (
            _right("certain", lambda row: f"{seconds(row['age'])} ago"),
            _right("instances", lambda row: number(len(row["instances"]) + row["hidden"])),
            Column("where", _instances),
        ),
    ),
    Section(
        "exporters",
        "Exporters",
        "telemetry",
        _exporter_level,
        lambda row: row["signal"],
        (
            _right("made", lambda row: number(row["emitted"] + row["recovered"])),
            _right("sent", lambda row: number(row["sent"])),
            _right("sent/s", lambda row: rate(row["sent_rate"])),
            _right("queued", lambda row: number(row["queued"] + row["in_flight"])),
            _right("spilled", lambda row: number(row["spilled"])),
            _right("dropped", lambda row: number(_dropped(row))),
        ),
    ),
    Section(
        "engines",
        "Log engine",
        "telemetry",
        lambda row: WARN if row["dropped"] else GOOD,
        lambda row: f"{rate(row['rate'])} lines/s",
        (
            _right("lines", lambda row: number(row["lines"])),
            _right("records", lambda row: number(row["records"])),
            _right("rejects", lambda row: number(row["rejects"])),
            _right("lost", lambda row: number(row["dropped"])),
        ),
    ),
    Section(
        "schemas",
        "Log schemas",
        "telemetry",
        lambda row: WARN if row["broken"] else GOOD,
        lambda row: f"version {row['version']}",
        (
            _right("records", lambda row: number(row["records"])),
            _right("broken", lambda row: number(row["broken"])),
            Column("fields", lambda row: _listed(row["fields"])),
        ),
        name=lambda row: clean(row["format"], 32),
    ),
    Section(
        "ebpf",
        "eBPF objects",
        "kernel and plugins",
        lambda row: WARN if row["lost"] else GOOD,
        lambda row: f"{len(row['links'])} links",
        (
            _right("programs", lambda row: number(len(row["programs"]))),
            _right("maps", lambda row: number(len(row["maps"]))),
            _right("runs", lambda row: number(sum(each["runs"] for each in row["programs"]))),
            _right("lost events", lambda row: number(row["lost"])),
        ),
    ),
    Section(
        "plugins",
        "Wasm plugins",
        "kernel and plugins",
        lambda row: WARN if row["traps"] or row["state"] != "active" else GOOD,
        lambda row: clean(row["state"], 24),
        (
            Column("digest", lambda row: clean(row["digest"][:12])),
            _right("calls/s", lambda row: rate(row["call_rate"])),
            _right("traps", lambda row: number(row["traps"])),
            _right("swaps", lambda row: number(row["swaps"])),
            Column("last trouble", lambda row: clean(row["last"], 50)),
        ),
    ),
    Section(
        "config",
        "Configuration",
        "events",
        lambda row: BAD if row["result"] == "refused" else GOOD,
        lambda row: row["result"],
        (Column("sources", lambda row: _listed(row["sources"])),),
        name=lambda row: clean(row["into"], 32),
    ),
    Section(
        "events",
        "Events",
        "events",
        lambda row: IDLE if row["level"] == "info" else row["level"],
        lambda row: clean(row["kind"], 20),
        (
            Column("what", lambda row: clean(row["text"], 90)),
            _right("when", lambda row: f"{seconds(row['ago'])} ago"),
        ),
    ),
)

_TROUBLE: Final = {BAD: 0, WARN: 1, GOOD: 2, IDLE: 3}


def ordered(section: Section, rows: list[Row], sort: str) -> list[Row]:
    """Rows in the order that was asked for; what has no such number keeps the order of names."""
    if section.key == "events":
        return rows  # newest first, as they come
    by_name = sorted(rows, key=lambda row: section.name(row).lower())
    if sort == "trouble":
        return sorted(by_name, key=lambda row: _TROUBLE[section.level(row)])
    field = {"allowed": "allowed_rate", "refused": "rejected_rate"}.get(sort)
    if field is None:
        return by_name
    return sorted(by_name, key=lambda row: -(row.get(field) or 0.0))
