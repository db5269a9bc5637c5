"""Schemas as JSON Schema, draft 2020-12."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._schema_fields import Path, SchemaField

__all__ = ("json_schema",)

_TYPES: Final[dict[str, dict[str, Any]]] = {
    "bool": {"type": "boolean"},
    "int": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float": {"type": "number"},
    "timestamp": {"type": "string", "format": "date-time"},
    "duration": {"type": "number", "description": "seconds"},
    "size": {"type": "integer", "description": "bytes"},
    "ip": {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
    "uuid": {"type": "string", "format": "uuid"},
    "url": {"type": "string", "format": "uri"},
    "str": {"type": "string"},
    "json": {"type": ["object", "array"]},
    "object": {"type": "object"},
}


def json_schema(fields: Sequence[SchemaField], title: str) -> dict[str, Any]:
    """Records as JSON has them: moments are texts of RFC 3339."""
    root: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": {},
    }
    objects: dict[Path, dict[str, Any]] = {(): root}
    for field in fields:
        around = objects[field.path[:-1]]
        name = field.path[-1]
        around["properties"][name] = made = _described(field)
        if not field.nullable:
            around.setdefault("required", []).append(name)
        if field.type == "object":
            made["properties"] = {}
            objects[field.path] = made
    return root


def _described(field: SchemaField) -> dict[str, Any]:
    if field.type == "null":
        return {}  # nothing is known of it
    found = dict(_TYPES[field.type])
    if field.items is not None:
        kind = _TYPES[field.items]["type"]
        found = {"type": "array", "items": {"type": [kind, "null"]}}
    if field.nullable:
        kinds = found["type"]
        found["type"] = [*(kinds if isinstance(kinds, list) else [kinds]), "null"]
        if "anyOf" in found:
            found["anyOf"] = [*found["anyOf"], {"type": "null"}]
    return found
