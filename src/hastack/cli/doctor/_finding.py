"""One line of ``hastack doctor``, and the form in which programs get it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ("SCHEMA", "Finding", "Status", "document", "worst")

Status: TypeAlias = Literal["ok", "missing", "broken"]
_RANK: Final[tuple[Status, ...]] = ("ok", "missing", "broken")


@final
@attrs.frozen(kw_only=True)
class Finding:
    """What was found out about one thing.

    Args:
        section: ``"extras"``, ``"kernel"`` and so on.
        name: What was looked at.
        status: ``"ok"``: it works. ``"missing"``: it is not there, and nothing that is configured
            needs it. ``"broken"``: it is there, or asked for, and does not work.
        says: In one sentence, for people.
        fix: The command that mends it, to be copied whole.
        notes: What is worth a look although it works.
        facts: For programs: numbers and names behind the sentence.
    """

    section: str
    name: str
    status: Status = "ok"
    says: str
    fix: str | None = None
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = attrs.field(factory=dict)


def worst(findings: Iterable[Finding]) -> Status:
    """The status of the whole."""
    return _RANK[max((_RANK.index(each.status) for each in findings), default=0)]


def document(findings: Iterable[Finding], version: str | None) -> dict[str, Any]:
    """What ``--json`` prints; `SCHEMA` describes it."""
    found = list(findings)
    return {
        "schema": 1,
        "hastack": version,
        "status": worst(found),
        "counts": {status: sum(each.status == status for each in found) for status in _RANK},
        "findings": [
            {
                "section": each.section,
                "name": each.name,
                "status": each.status,
                "says": each.says,
                "fix": each.fix,
                "notes": list(each.notes),
                "facts": dict(each.facts),
            }
            for each in found
        ],
    }


_TEXT: Final = {"type": "string", "minLength": 1}
_STATUS: Final = {"enum": list(_RANK)}
SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "hastack doctor --json",
    "type": "object",
    "additionalProperties": False,
    "required": ["schema", "hastack", "status", "counts", "findings"],
    "properties": {
        "schema": {"const": 1, "description": "Grows when a reader of this one would break."},
        "hastack": {"type": ["string", "null"], "description": "Version; null: not installed."},
        "status": {**_STATUS, "description": "The worst of the findings."},
        "counts": {
            "type": "object",
            "additionalProperties": False,
            "required": list(_RANK),
            "properties": {status: {"type": "integer", "minimum": 0} for status in _RANK},
        },
        "findings": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["section", "name", "status", "says", "fix", "notes", "facts"],
                "properties": {
                    "section": _TEXT,
                    "name": _TEXT,
                    "status": _STATUS,
                    "says": _TEXT,
                    "fix": {"type": ["string", "null"], "description": "A command that mends it."},
                    "notes": {"type": "array", "items": _TEXT},
                    "facts": {
                        "type": "object",
                        "description": "Numbers and names behind the sentence; keys may be added.",
                    },
                },
            },
        },
    },
}
"""JSON Schema of the document; keys may be added to ``facts`` only."""
