"""A miner as JSON, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hastack._core._errors import InvalidArgument

from ._template_form import Form
from ._template_index import Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._template_index import Index

__all__ = ("read_state", "write_state")

_VERSION = 1
_KIND = "hastack.templates"


def write_state(index: Index, options: dict[str, Any]) -> str:
    """All that ``index`` knows."""
    return json.dumps(
        {
            "kind": _KIND,
            "version": _VERSION,
            "options": options,
            "next_id": index.next_id,
            "lines": index.tick,
            "evicted": index.evicted,
            "aliases": list(index.aliases.items()),
            "templates": [
                {
                    "id": entry.id,
                    "row": entry.row,
                    "tokens": entry.form.tokens,
                    "masks": entry.form.masks,
                    "gaps": entry.form.gaps,
                    "example": entry.example,
                    "count": entry.count,
                    "seen": entry.seen,
                    "reasons": list(entry.reasons.items()),
                    "samples": entry.samples,
                }
                for entry in index.entries.values()
            ],
        }
    )


def read_state(text: str) -> tuple[dict[str, Any], Callable[[Index], None]]:
    """The options, and what fills an index made with them.

    Raises:
        InvalidArgument: The text is no such state.
    """
    accepted = "what dump() gave"
    try:
        state = json.loads(text)
        if (state["kind"], state["version"]) != (_KIND, _VERSION):
            raise InvalidArgument("text", state["version"], f"{accepted}, version {_VERSION}")
        entries = [_entry(each) for each in state["templates"]]
        aliases = {int(old): int(new) for old, new in state["aliases"]}
        numbers = [int(state[name]) for name in ("next_id", "lines", "evicted")]
        options = dict(state["options"])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument("text", f"{str(text)[:40]}...", accepted) from error

    def fill(index: Index) -> None:
        index.next_id, index.tick, index.evicted = numbers
        index.aliases = aliases
        index.restore(entries)

    return options, fill


def _entry(each: dict[str, Any]) -> Entry:
    tokens, masks = tuple(map(str, each["tokens"])), tuple(map(str, each["masks"]))
    form = Form(tokens, masks, tuple(map(str, each["gaps"])))
    row = tuple(map(str, each["row"]))
    if len(row) != len(tokens):
        raise ValueError("a row has as many tokens as its template")
    entry = Entry(int(each["id"]), row, form, str(each["example"]))
    entry.count, entry.seen = int(each["count"]), int(each["seen"])
    entry.reasons = {int(column): str(why) for column, why in each["reasons"]}
    entry.samples = [tuple(map(str, values)) for values in each["samples"]]
    if any(len(values) != form.holes for values in entry.samples):
        raise ValueError("a sample has as many values as its template has holes")
    return entry
