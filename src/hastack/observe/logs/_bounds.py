"""Is the time to read a line bound by its length? Refuse a grammar of which that cannot be said.

Nothing that matched is ever tried again, so each place of a grammar reads a stretch of the line at
most once, with one exception: a repetition whose body may read far, give up, and then go on by a
little. ``many(alt(seq(until("]"), lit("]")), char))`` reads the rest of a line of n characters n
times. So three things are followed through a grammar: whether a part may match nothing, whether it
may read arbitrarily far and then not match, and whether it may have done so although it matched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ._nodes import Alt, Derive, Field, Leaf, Lit, Many, Map, Opt, Scan, SepBy, Seq

if TYPE_CHECKING:
    from ._nodes import Node

__all__ = ("Cost", "Unbounded", "cost")


class Unbounded(ValueError):
    """Reading a line may take more than time in proportion to its length; the message says why."""


@attrs.frozen
class Cost:
    """How a part reads.

    Attributes:
        empty: It may match without reading anything.
        long: It may read arbitrarily far.
        waste: It may read arbitrarily far and then not match.
        detour: It may match after having read arbitrarily far in vain.
        fails: It may not match at all.
    """

    empty: bool
    long: bool
    waste: bool
    detour: bool
    fails: bool


def cost(node: Node) -> Cost:
    """How ``node`` reads.

    Raises:
        Unbounded: It cannot be said that its time is bound.
    """
    if isinstance(node, Lit):
        return Cost(not node.text, long=False, waste=False, detour=False, fails=bool(node.text))
    if isinstance(node, Leaf):
        return _leaf(node)
    if isinstance(node, Scan):
        if not node.bounded:
            raise Unbounded(f"nobody knows how long it takes to read {node.expected}")
        return Cost(empty=False, long=True, waste=True, detour=False, fails=True)
    if isinstance(node, Seq):
        return _in_order([cost(part) for part in node.parts])
    if isinstance(node, Alt):
        return _either([cost(branch) for branch in node.branches])
    if isinstance(node, Opt):
        inner = cost(node.part)
        return attrs.evolve(
            inner, empty=True, waste=False, detour=inner.detour or inner.waste, fails=False
        )
    if isinstance(node, Derive):
        return _leaf(node.leaf)
    if isinstance(node, (Field, Map)):
        return cost(node.part)
    assert isinstance(node, Many)
    return _repeated(node)


def _leaf(node: Leaf) -> Cost:
    from ._leaf_bounds import may_be_empty, may_be_long, may_read_on

    return Cost(
        empty=may_be_empty(node.pattern),
        long=may_be_long(node.pattern),
        waste=may_read_on(node.pattern),
        detour=False,
        fails=True,
    )


def _in_order(parts: list[Cost]) -> Cost:
    read_far = waste = False
    for part in parts:
        # What came before was read for nothing if this one does not match.
        waste = waste or part.waste or (read_far and part.fails)
        read_far = read_far or part.long or part.detour
    return Cost(
        empty=all(part.empty for part in parts),
        long=any(part.long for part in parts),
        waste=waste,
        detour=any(part.detour for part in parts),
        fails=any(part.fails for part in parts),
    )


def _either(branches: list[Cost]) -> Cost:
    before = False  # whether an earlier branch may have read far for nothing
    detour = False
    for branch in branches:
        detour = detour or branch.detour or before
        before = before or branch.waste
    return Cost(
        empty=any(branch.empty for branch in branches),
        long=any(branch.long for branch in branches),
        waste=any(branch.waste for branch in branches),
        detour=detour,
        fails=all(branch.fails for branch in branches),
    )


def _repeated(node: Many) -> Cost:
    body = cost(node.part)
    if isinstance(node, SepBy):
        body = _in_order([cost(node.separator), body])
    if node.most is None:
        if body.empty:
            raise Unbounded("the body of a repetition may match nothing, again and again")
        if body.detour:
            raise Unbounded(
                "the body of a repetition may read far in vain and then go on by a little: "
                "each round may read the rest of the line again"
            )
    few = node.most is not None
    return Cost(
        empty=node.least == 0,
        long=not few or body.long,
        # The round that ends it may have read far.
        waste=node.least > 0 and (body.waste or body.long or not few),
        detour=body.waste or body.detour,
        fails=node.least > 0,
    )
