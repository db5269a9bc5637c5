"""Which component waits for which: pure questions about the dependency graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Graph = Mapping[str, Sequence[str]]


def cycle(graph: Graph) -> list[str] | None:
    """One cycle as ``[a, b, a]``, or ``None``. Names that are not keys are taken as leaves."""
    done: set[str] = set()
    for root in graph:
        # An explicit stack: a long chain of components must not meet the recursion limit.
        path: list[str] = []
        stack = [(root, iter(graph[root]))] if root not in done else []
        path += [root] if stack else []
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                path.pop()
                done.add(name)
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following in graph and following not in done:
                path.append(following)
                stack.append((following, iter(graph[following])))
    return None


def missing(graph: Graph) -> list[tuple[str, str]]:
    """Every ``(component, dependency)`` whose dependency is not a component."""
    return [(name, need) for name, needs in graph.items() for need in needs if need not in graph]


def start_order(graph: Graph) -> tuple[str, ...]:
    """All names, each after its dependencies, otherwise as they were added.

    Kahn's algorithm; ``graph`` must be complete and free of cycles.
    """
    order: list[str] = []
    placed: set[str] = set()
    while len(order) < len(graph):
        for name, needs in graph.items():
            if name not in placed and placed.issuperset(needs):
                order.append(name)
                placed.add(name)
    return tuple(order)


def dependents(graph: Graph) -> dict[str, tuple[str, ...]]:
    """For each name, the components that need it directly."""
    result: dict[str, list[str]] = {name: [] for name in graph}
    for name, needs in graph.items():
        for need in needs:
            result[need].append(name)
    return {name: tuple(users) for name, users in result.items()}


def heights(graph: Graph) -> dict[str, int]:
    """For each name, how many components the longest chain from it downwards has, itself too."""
    result: dict[str, int] = {}
    for name in start_order(graph):
        result[name] = 1 + max((result[need] for need in graph[name]), default=0)
    return result
