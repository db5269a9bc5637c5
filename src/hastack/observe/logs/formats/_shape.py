"""What can be told of a grammar without reading a line: types of its fields, its first characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hastack.observe.logs import _leaf_bounds
from hastack.observe.logs._nodes import Alt, Derive, Field, Leaf, Lit, Many, Opt, Scan, Seq

if TYPE_CHECKING:
    from hastack.observe.logs._nodes import Node

__all__ = ("field_kinds", "first_characters", "supertype")

_BEYOND = {"\u00e9", "\u4e2d", "\U0001f600"}  # the samples of what is not ASCII


def field_kinds(node: Node) -> dict[str, str]:
    """Name and type of each field; those of which nothing is known are left out."""
    found: dict[str, str] = {}
    _collect(node, found)
    return found


def _collect(node: Node, found: dict[str, str]) -> None:
    if isinstance(node, Derive):
        found.update({name: kind for name, (_, kind) in node.made.items()})
    elif isinstance(node, Field):
        kind = kind_of(node.part)
        if kind is not None:
            known = found.get(node.name)
            found[node.name] = kind if known is None else supertype(known, kind)
    else:
        for child in node.children():
            _collect(child, found)


def kind_of(node: Node) -> str | None:
    """The type of a value; ``None`` when nothing is known of it."""
    if node.names or isinstance(node, (Many, Seq)):
        return "json"
    if isinstance(node, Scan):
        return "json" if node.kind == "object" else node.kind
    if isinstance(node, Leaf):
        return node.kind
    if isinstance(node, Lit):
        return "str"
    if isinstance(node, Opt):
        return kind_of(node.part)
    if isinstance(node, Alt):
        kinds = [kind_of(branch) for branch in node.branches]
        found = kinds[0]
        for kind in kinds[1:]:
            found = None if found is None or kind is None else supertype(found, kind)
        return found
    return None  # a function made it


def supertype(one: str, other: str) -> str:
    """The narrowest type that holds values of both: int in float, everything in str."""
    if other in {one, "null"}:
        return one
    if one == "null":
        return other
    if {one, other} == {"int", "float"}:
        return "float"
    return "str"


def first_characters(pattern: str) -> frozenset[str] | None:
    """With which characters a text may begin that ``pattern`` matches.

    ``""`` stands for all beyond ASCII; ``None`` when it may be empty.
    """
    tree = _leaf_bounds.parser.parse(pattern)  # type: ignore[attr-defined]  # private
    found = _leaf_bounds._first(list(tree))
    if found is None:
        return None
    return frozenset({"" if char in _BEYOND else char for char in found})
