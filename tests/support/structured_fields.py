"""Reads the structured fields of RFC 9651 that hastack writes; with another package beside it."""

from __future__ import annotations

import http_sf


def read_list(value: str) -> dict[str, dict[str, object]]:
    """A List whose members are Strings: each with its parameters.

    Raises what `http_sf` raises when the field is malformed, and when a member is no String.
    """
    found: dict[str, dict[str, object]] = {}
    for item, parameters in http_sf.parse(value.encode("ascii"), tltype="list"):
        assert type(item) is str, f"{item!r} is no String"
        assert item not in found
        found[item] = dict(parameters)
    return found
