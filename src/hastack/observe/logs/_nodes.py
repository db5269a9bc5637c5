"""The grammar of a log line as data: what the combinators build, and how it is read slowly.

Reading follows parsing expression grammars: alternatives are ordered, repetition is greedy, and
nothing that matched is ever tried again. `_fuse` makes the same grammar one regular expression;
what is here is the meaning that it has to agree with, the reader of what it cannot fuse, and the
one who can say what was expected where.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ._atomic import compile_regex

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator, Sequence

__all__ = (
    "Alt",
    "Derive",
    "Field",
    "Leaf",
    "Lit",
    "Many",
    "Map",
    "Miss",
    "Node",
    "Opt",
    "Scan",
    "SepBy",
    "Seq",
    "Unconvertible",
    "read",
)


class Miss:
    """Where reading got to and what would have been right there."""

    __slots__ = ("at", "expected")

    def __init__(self) -> None:
        self.at = -1
        self.expected: dict[str, None] = {}

    def note(self, at: int, expected: str) -> None:
        """Something did not match; only the furthest places are kept."""
        if at > self.at:
            self.at = at
            self.expected = {expected: None}
        elif at == self.at:
            self.expected[expected] = None


class Unconvertible(ValueError):
    """A text that matched cannot be converted; the line is rejected there.

    Args:
        at: Where it is.
        expected: What would have been right there.
    """

    def __init__(self, at: int, expected: str) -> None:
        super().__init__(at, expected)
        self.at = at
        self.expected = expected


Found: TypeAlias = "tuple[int, Any] | None"
"""Where it ends, and what `Node.value` makes the value of; ``None`` when it does not match."""


class Node:
    """A part of a grammar.

    Choices are made by how the text looks: first all of it is matched, and only what is wanted of it
    is converted then.

    Attributes:
        names: The fields that it yields, in order; none if its value is not a record.
    """

    __slots__ = ("names",)

    names: tuple[str, ...]

    def match(self, text: str, at: int, miss: Miss) -> Found:
        """Read from ``at``; say in ``miss`` what was expected where it does not match."""
        raise NotImplementedError

    def value(self, found: Any) -> Any:
        """The value of what `match` found.

        Raises:
            Unconvertible: It has none.
        """
        return found

    def children(self) -> Iterator[Node]:
        """The parts of which it is made."""
        return iter(())

    def nothing(self) -> Any:
        """Its value when it is left out: every field ``None``."""
        return dict.fromkeys(self.names) if self.names else None


class Lit(Node):
    """Exactly this text."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.names = ()
        self.text = text

    def match(self, text: str, at: int, miss: Miss) -> Found:
        """See `Node`."""
        if text.startswith(self.text, at):
            return at + len(self.text), self.text
        miss.note(at, repr(self.text))
        return None


class Leaf(Node):
    """What a regular expression matches, converted.

    Attributes:
        pattern: The expression; no groups that capture.
        convert: From text to the value; `ValueError` rejects the line. ``None`` leaves the text.
        expected: For people: ``"an integer"``.
        kind: Name of the value's type, for schemas.
        nil: A text that stands for no value: ``None``.
        rare: ``convert`` is needed only for texts that contain this; others are their value.
    """

    __slots__ = ("_regex", "convert", "expected", "kind", "nil", "pattern", "rare")

    def __init__(
        self,
        pattern: str,
        convert: Callable[[str], Any] | None,
        *,
        expected: str,
        kind: str = "str",
        nil: str | None = None,
        rare: str | None = None,
    ) -> None:
        self.names = ()
        self.pattern = pattern
        self.convert = convert
        self.expected = expected
        self.kind = kind
        self.nil = nil
        self.rare = rare
        self._regex = compile_regex(pattern)

    def match(self, text: str, at: int, miss: Miss) -> Found:
        """See `Node`."""
        found = self._regex.match(text, at)
        if found is None:
            miss.note(at, self.expected)
            return None
        return found.end(), found

    def value(self, found: re.Match[str]) -> Any:
        """See `Node`."""
        text = found[0]
        if text == self.nil:
            return None
        if self.convert is None or (self.rare is not None and self.rare not in text):
            return text
        try:
            return self.convert(text)
        except (ValueError, OverflowError):
            raise Unconvertible(found.start(), self.expected) from None


class Derive(Node):
    """Several fields made of one text: facility and severity of a number.

    Attributes:
        leaf: Matches the text; not converted itself.
        made: For each field its conversion and the name of its type.
    """

    __slots__ = ("leaf", "made")

    def __init__(self, leaf: Leaf, made: dict[str, tuple[Callable[[str], Any], str]]) -> None:
        self.leaf = leaf
        self.made = made
        self.names = tuple(made)

    def match(self, text: str, at: int, miss: Miss) -> Found:
        """See `Node`."""
        return self.leaf.match(text, at, miss)

    def value(self, found: re.Match[str]) -> Any:
        """See `Node`."""
        try:
            return {name: convert(found[0]) for name, (convert, _) in self.made.items()}
        except (ValueError, OverflowError):
            raise Unconvertible(found.start(), self.leaf.expected) from None

    def children(self) -> Iterator[Node]:
        """See `Node`."""
        yield self.leaf


class Scan(Node):
    """What a function reads, for what no regular expression can.

    Attributes:
        read: From text and place to the end and the value, or ``None``.
        expected: For people.
        kind: Name of the value's type.
        bounded: Whether it is known to take time in proportion to what it reads.
    """

    __slots__ = ("bounded", "expected", "kind", "read")

    def __init__(
        self,
        read: Callable[[str, int], tuple[int, Any] | None],
        *,
        expected: str,
        kind: str = "object",
        bounded: bool = True,
    ) -> None:
        self.names = ()
        self.read = read
        self.expected = expected
        self.kind = kind
        self.bounded = bounded

    def match(self, text: str, at: int, miss: Miss) -> Found:
        """See `Node`."""
        found = self.read(text, at)
        if found is None:
            miss.note(at, self.expected)
        return found


class Seq(Node):
    """One after the other: a record of the fields inside, or a list of values if there are none."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Node]) -> None:
        self.parts = tuple(parts)
        self.names = tuple(dict.fromkeys(name for part in self.parts for name in part.names))

    def match(self, text: str, at: int, miss: Miss) -> Found:
        """See `Node`."""
        inner = []
        for part in self.parts:
            found = part.match(text, at, miss)
            if found is None:
                return None
            at = found[0]
            inner.append(found[1])
        return at, inner

    def value(self, found: Any) -> Any:
        """See `Node`."""
        if not self.names:
            return [part.value(each) for part, each in zip(self.parts, found, strict=True)]
        record: dict[str, Any] = {}
        for part, each in zip(self.parts, found, strict=True):
            if part.names:
                record.update(part.value(each))
        return record

    def children(self) -> Iterator[Node]:
        """See `Node`."""
        return iter(self.parts)


class Alt(Node):
    """The first that matches. A record has the fields of all branches, ``None`` where not read."""

    __slots__ = ("branches",)

    def __init__(self, branches: Sequence[Node]) -> None:
        self.branches = tuple(branches)
        self.names = tuple(dict.fromkeys(n for branch in self.branches for n in branch.names))

    def match(self, text: str, at: int, miss: Miss) -> Found:
        """See `Node`."""
        for branch in self.branches:
            found = branch.match(text, at, miss)
            if found is not None:
                return found[0], (branch, found[1])
        return None

    def value(self, found: Any) -> Any:
        """See `Node`."""
        branch, inner = found
        if not self.names:
            return branch.value(inner)
        return {**self.nothing(), **(branch.value(inner) if branch.names else {})}

    def children(self) -> Iterator[Node]:
        """See `Node`."""
        return iter(self.branches)


class Opt(Node):
    """Perhaps: its value, or ``default``, or ``None`` for every field."""

    __slots__ = ("default", "part")

    def __init__(self, part: Node, default: Any = None) -> None:
        self.part = part
        self.default = default
        self.names = part.names

    def match(self, text: str, at: int, miss: Miss) -> Found:
        """See `Node`."""
        found = self.part.match(text, at, miss)
        return (at, None) if found is None else (found[0], (found[1],))

    def value(self, found: Any) -> Any:
        """See `Node`."""
        return self.nothing() if found is None else self.part.value(found[0])

    def nothing(self) -> Any:
        """See `Node`."""
        return super().nothing() if self.names else self.default

    def children(self) -> Iterator[Node]:
        """See `Node`."""
        yield self.part


class Many(Node):
    """As often as it matches, at least ``least`` and at most ``most`` times: a list."""

    __slots__ = ("least", "most", "part")

    def __init__(self, part: Node, least: int = 0, most: int | None = None) -> None:
        self.part = part
        self.least = least
        self.most = most
        self.names = ()

    def match(self, text: str, at: int, miss: Miss) -> Found:
        """See `Node`."""
        items: list[Any] = []
        while self.most is None or len(items) < self.most:
            found = self.part.match(text, at, miss)
            if found is None:
                break
            at = found[0]
            items.append(found[1])
        return (at, items) if len(items) >= self.least else None

    def value(self, found: Any) -> Any:
        """See `Node`."""
        return [self.part.value(each) for each in found]

    def children(self) -> Iterator[Node]:
        """See `Node`."""
        yield self.part


class SepBy(Many):
    """Items with something between them: a list of the items."""

    __slots__ = ("separator",)

    def __init__(
        self, part: Node, separator: Node, least: int = 0, most: int | None = None
    ) -> None:
        super().__init__(part, least, most)
        self.separator = separator

    def match(self, text: str, at: int, miss: Miss) -> Found:
        """See `Node`."""
        items: list[Any] = []
        start = at
        while self.most is None or len(items) < self.most:
            if items:
                between = self.separator.match(text, at, miss)
                if between is None:
                    break
                start = between[0]
            found = self.part.match(text, start, miss)
            if found is None:
                break  # a separator without an item after it is not read
            at = found[0]
            items.append(found[1])
        return (at, items) if len(items) >= self.least else None

    def children(self) -> Iterator[Node]:
        """See `Node`."""
        yield self.part
        yield self.separator


class Field(Node):
    """A named value: a record of one."""

    __slots__ = ("name", "part")

    def __init__(self, name: str, part: Node) -> None:
        self.name = name
        self.part = part
        self.names = (name,)

    def match(self, text: str, at: int, miss: Miss) -> Found:
        """See `Node`."""
        return self.part.match(text, at, miss)

    def value(self, found: Any) -> Any:
        """See `Node`."""
        return {self.name: self.part.value(found)}

    def children(self) -> Iterator[Node]:
        """See `Node`."""
        yield self.part


class Map(Node):
    """A value made of another; `ValueError` rejects the line."""

    __slots__ = ("expected", "function", "part")

    def __init__(self, part: Node, function: Callable[[Any], Any], expected: str) -> None:
        self.part = part
        self.function = function
        self.expected = expected
        self.names = ()

    def match(self, text: str, at: int, miss: Miss) -> Found:
        """See `Node`."""
        found = self.part.match(text, at, miss)
        return None if found is None else (found[0], (at, found[1]))

    def value(self, found: Any) -> Any:
        """See `Node`."""
        at, inner = found
        value = self.part.value(inner)
        try:
            return self.function(value)
        except (ValueError, OverflowError):
            raise Unconvertible(at, self.expected) from None

    def children(self) -> Iterator[Node]:
        """See `Node`."""
        yield self.part


def read(node: Node, text: str, at: int, miss: Miss) -> tuple[int, Any] | None:
    """Match and convert: where it ends and the value, or ``None``."""
    found = node.match(text, at, miss)
    if found is None:
        return None
    try:
        return found[0], node.value(found[1])
    except Unconvertible as error:
        miss.at = -1  # what matched further on does not matter
        miss.note(error.at, error.expected)
        return None
