"""A grammar as one regular expression and one generated function.

Every construct becomes atomic or possessive, so that the expression, too, never tries again what
matched: it accepts exactly what `_nodes` accepts, in one pass in C. The values are then made by a
function that is written for this grammar, a flat expression over the groups.

What cannot be converted after it matched (the 31st of February) rejects the line, on either path.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from ._atomic import compile_regex
from ._leaf_bounds import never_gives_back
from ._nodes import Alt, Derive, Field, Leaf, Lit, Many, Map, Miss, Opt, Scan, SepBy, Seq, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._nodes import Found, Node

__all__ = ("Fused", "Reader", "fusible", "without_groups")

T = TypeVar("T")


class Reader:
    """Reads lines with a grammar, as fast as it can be done.

    Args:
        node: The grammar.

    Attributes:
        node: The same.
        fused: Whether all of it became one expression.
        patterns: The expressions of its fused parts.
        whole: From a text to the value, or ``None`` unless all of it matches.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self._steps = _steps(node)
        only = self._steps[0] if len(self._steps) == 1 else None
        self.fused = isinstance(only, Fused)
        self.patterns = [step.pattern for step in self._steps if isinstance(step, Fused)]
        if isinstance(only, Fused):
            # The usual case, without a loop around it.
            self.match: Callable[[str, int], Found] = only.match
            self.whole: Callable[[str], Any] = only.whole()
        else:
            self.match = self._in_steps
            self.whole = self._all_of

    @property
    def start(self) -> str | None:
        """The expression of what a line begins with, if it is known."""
        first = self._steps[0] if self._steps else None
        return first.pattern if isinstance(first, Fused) else None

    def _all_of(self, text: str) -> Any:
        found = self._in_steps(text, 0)
        return found[1] if found is not None and found[0] == len(text) else None

    def _in_steps(self, text: str, at: int) -> Found:
        record: dict[str, Any] = {}
        values: list[Any] = []
        for step in self._steps:
            found = step.match(text, at)
            if found is None:
                return None
            at, value = found
            if step.names:
                record.update(value)
            elif step.spread:
                values += value
            else:
                values.append(value)
        if self.node.names:
            return at, record
        return at, values if isinstance(self.node, Seq) else values[0]

    def explain(self, text: str, at: int = 0) -> Miss:
        """Where reading ``text`` gets to and what was expected there."""
        miss = Miss()
        read(self.node, text, at, miss)
        return miss


class _Slow:
    """A part that is read by its nodes."""

    spread = False

    def __init__(self, node: Node) -> None:
        self._node = node
        self.names = node.names

    def match(self, text: str, at: int) -> Found:
        return read(self._node, text, at, Miss())


def _steps(node: Node) -> list[Fused | _Slow]:
    if fusible(node):
        return [Fused(node)]
    if not isinstance(node, Seq):
        return [_Slow(node)]
    steps: list[Fused | _Slow] = []
    together: list[Node] = []

    def flush() -> None:
        if together:
            steps.append(Fused(Seq(together), spread=True))
            together.clear()

    for part in node.parts:
        if fusible(part):
            together.append(part)
        else:
            flush()
            steps.append(_Slow(part))
    flush()
    return steps


def fusible(node: Node) -> bool:
    """Whether ``node`` can become a regular expression: nothing in it is a function that reads."""
    return not isinstance(node, Scan) and all(map(fusible, node.children()))


class Fused:
    """One expression with its function.

    Args:
        node: A grammar that is `fusible`.
        spread: Its values are several of the sequence that it was taken from.

    Attributes:
        pattern: The expression.
        source: The function that makes the values, as text.
    """

    def __init__(self, node: Node, *, spread: bool = False) -> None:
        self.node = node
        self.names = node.names
        self.spread = spread and not node.names
        writer = _Writer()
        self.pattern, self._value = writer.part(node)
        self._regex = compile_regex(self.pattern)
        self.source = _function(self._value, self._regex.groups)
        self._scope = writer.constants
        exec(self.source, self._scope)  # noqa: S102  # written here; texts go in as constants
        self._make: Callable[[re.Match[str]], Any] = self._scope["make"]
        self._find = self._regex.match

    def whole(self) -> Callable[[str], Any]:
        """A function from a text that must match to its end to the value, or ``None``."""
        # `fullmatch` looks for other ways to the end, here there are none.
        self._scope["find"] = compile_regex(rf"(?:{self.pattern})\Z").match
        exec(_whole(self._value, self._regex.groups), self._scope)  # noqa: S102  # see __init__
        read: Callable[[str], Any] = self._scope["whole"]
        return read

    def match(self, text: str, at: int) -> Found:
        """Read from ``at``: where it ends and the value, or ``None``."""
        found = self._find(text, at)
        if found is None:
            return None
        try:
            return found.end(), self._make(found)
        except (ValueError, OverflowError):
            return None

    def end_of(self, text: str, at: int) -> int:
        """Where it ends, when it is known to match; its value is not made."""
        found = self._find(text, at)
        assert found is not None
        return found.end()


def _function(value: str, groups: int) -> str:
    if not groups:
        return f"def make(m):\n return {value}\n"
    names = "".join(f"g{number}," for number in range(1, groups + 1))
    return f"def make(m):\n {names}=m.groups()\n return {value}\n"


def _whole(value: str, groups: int) -> str:
    names = "".join(f"g{number}," for number in range(1, groups + 1))
    take = f"  {names}=m.groups()\n" if groups else ""
    return (
        "def whole(text):\n m=find(text)\n if m is None:return None\n try:\n"
        f"{take}  return {value}\n except (ValueError,OverflowError):return None\n"
    )


def _dictionary(fields: dict[str, str]) -> str:
    return f"{{{','.join(f'{name!r}:{value}' for name, value in fields.items())}}}"


class _Writer:
    """Writes the expression and, beside it, the source of its value."""

    def __init__(self) -> None:
        self.constants: dict[str, Any] = {}
        self._groups = 0
        # A group that takes part whenever the branch that is being written does.
        self._sure = 0
        self._by_value: dict[int, str] = {}

    def _group(self) -> int:
        self._groups += 1
        return self._groups

    def _marked(self, write: Callable[[Node], tuple[str, T]], branch: Node) -> tuple[str, T, int]:
        """A branch of a choice, with a group that takes part exactly if it is chosen."""
        outer, self._sure = self._sure, 0
        pattern, value = write(branch)
        mark, self._sure = self._sure, outer
        if not mark:
            mark = self._group()
            pattern = f"{pattern}()"
        return pattern, value, mark

    def _constant(self, value: Any) -> str:
        """A name for an object in the function's scope."""
        found = self._by_value.get(id(value))
        if found is None:
            found = self._by_value[id(value)] = f"c{len(self.constants)}"
            self.constants[found] = value
        return found

    def part(self, node: Node) -> tuple[str, str]:
        """Expression and source of the value of a part."""
        if node.names and not isinstance(node, Field):
            pattern, fields = self.record(node)
            return pattern, _dictionary(fields)
        if isinstance(node, Lit):
            return re.escape(node.text), repr(node.text)
        if isinstance(node, Leaf):
            pattern, group = self._capture(node)
            return pattern, self._leaf(node, group)
        if isinstance(node, Field):
            pattern, source = self.part(node.part)
            return pattern, f"{{{node.name!r}:{source}}}"
        if isinstance(node, Seq):
            parts = [self.part(each) for each in node.parts]
            return "".join(p for p, _ in parts), f"[{','.join(s for _, s in parts)}]"
        if isinstance(node, Alt):
            return self._alternatives(node)
        if isinstance(node, Opt):
            sure = self._sure
            pattern, source = self.part(node.part)
            self._sure = sure
            mark = self._group()
            default = self._constant(node.default) if node.default is not None else "None"
            return f"(?:{pattern}())?+", f"({source} if g{mark} is not None else {default})"
        if isinstance(node, Map):
            pattern, source = self.part(node.part)
            return pattern, f"{self._constant(node.function)}({source})"
        assert isinstance(node, Many)
        return self._repetition(node)

    def _capture(self, leaf: Leaf) -> tuple[str, str]:
        number = self._group()
        self._sure = self._sure or number
        inner = leaf.pattern if never_gives_back(leaf.pattern) else f"(?>{leaf.pattern})"
        return f"({inner})", f"g{number}"

    def _leaf(self, node: Leaf, group: str) -> str:
        source = group
        if node.convert is not None:
            source = f"{self._constant(node.convert)}({group})"
            if node.rare is not None:
                source = f"({source} if {node.rare!r} in {group} else {group})"
        if node.nil is not None:
            source = f"(None if {group}=={node.nil!r} else {source})"
        return source

    def record(self, node: Node) -> tuple[str, dict[str, str]]:
        """Expression of a record and the source of each field."""
        if isinstance(node, Field):
            pattern, source = self.part(node.part)
            return pattern, {node.name: source}
        if isinstance(node, Derive):
            pattern, group = self._capture(node.leaf)
            return pattern, {
                name: f"{self._constant(convert)}({group})"
                for name, (convert, _) in node.made.items()
            }
        if isinstance(node, Seq):
            patterns, fields = [], {}
            for part in node.parts:
                if part.names:
                    pattern, inner = self.record(part)
                    fields.update(inner)
                else:
                    pattern = self.silent(part)
                patterns.append(pattern)
            return "".join(patterns), fields
        if isinstance(node, Opt):
            sure = self._sure
            pattern, fields = self.record(node.part)
            self._sure = sure
            mark = self._group()
            return f"(?:{pattern}())?+", {
                name: f"({source} if g{mark} is not None else None)"
                for name, source in fields.items()
            }
        assert isinstance(node, Alt)
        return self._alternative_records(node)

    def silent(self, node: Node) -> str:
        """Expression of a part whose value nobody wants."""
        return without_groups(_Writer().part(node)[0])

    def _alternatives(self, node: Alt) -> tuple[str, str]:
        patterns, source = [], "None"
        marked = []
        for branch in node.branches:
            pattern, value, mark = self._marked(self.part, branch)
            patterns.append(pattern)
            marked.append((mark, value))
        # A chain without parentheses: Python nests no more than 200 of them.
        for mark, value in reversed(marked):
            source = f"{value} if g{mark} is not None else {source}"
        return f"(?>{'|'.join(patterns)})", f"({source})"

    def _named(self, node: Node) -> tuple[str, dict[str, str]]:
        return self.record(node) if node.names else (self.silent(node), {})

    def _alternative_records(self, node: Alt) -> tuple[str, dict[str, str]]:
        patterns = []
        fields = dict.fromkeys(node.names, "None")
        branches = []
        for branch in node.branches:
            pattern, inner, mark = self._marked(self._named, branch)
            patterns.append(pattern)
            branches.append((mark, inner))
        for mark, inner in reversed(branches):
            for name, value in inner.items():
                fields[name] = f"{value} if g{mark} is not None else {fields[name]}"
        chains = {name: f"({source})" for name, source in fields.items()}
        return f"(?>{'|'.join(patterns)})", chains

    def _repetition(self, node: Many) -> tuple[str, str]:
        body = Fused(node.part)
        bare = without_groups(body.pattern)
        group = self._group()
        least, most = node.least, node.most
        if not isinstance(node, SepBy):
            pattern = f"(?:{bare}){{{least},{'' if most is None else most}}}+"
            items = self._constant(_items(body, None))
        else:
            between = Fused(node.separator)
            rest = f"(?:{without_groups(between.pattern)}{bare})"
            more = "" if most is None else max(most - 1, 0)
            pattern = f"(?:{bare}{rest}{{{max(least - 1, 0)},{more}}}+)"
            if least == 0:
                pattern += "?+"
            items = self._constant(_items(body, between))
        return f"({pattern})", f"{items}(m.string,*m.span({group}))"


def _items(body: Fused, between: Fused | None) -> Callable[[str, int, int], list[Any]]:
    """Reads the items of a stretch that is known to be a repetition of ``body``."""

    def read(text: str, at: int, end: int) -> list[Any]:
        values: list[Any] = []
        while at < end:
            if between is not None and values:
                at = between.end_of(text, at)
            found = body.match(text, at)
            if found is None:
                raise ValueError
            at, value = found
            values.append(value)
        return values

    return read


def without_groups(pattern: str) -> str:
    r"""The same expression with groups that do not capture.

    Only `_Writer` made its groups: a bare ``(`` that is not escaped, not in a class, and not
    followed by ``?`` opens one.
    """
    found: list[str] = []
    at, in_class = 0, False
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            found.append(pattern[at : at + 2])
            at += 2
            continue
        if in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
            # A bracket that comes first in a class is a member of it.
            skip = 2 if pattern[at + 1 : at + 2] == "^" else 1
            if pattern[at + skip : at + skip + 1] == "]":
                found.append(pattern[at : at + skip + 1])
                at += skip + 1
                continue
        elif char == "(" and pattern[at + 1 : at + 2] != "?":
            char = "(?:"
        found.append(char)
        at += 1
    return "".join(found)
