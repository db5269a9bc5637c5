"""Parser combinators for log lines: readable like parsy, as fast as one regular expression.

Every combinator is a real `parsy.Parser`, so it mixes with any other parsy parser. What is built of
the combinators here is also known as a grammar, and `Parser.compile` makes that one regular
expression with a generated function. Foreign parsers, `Parser.bind` and ``parsy.generate`` are read
the slow way, the rest around them is not.

Example:
    >>> from hastack.observe.logs import combinators as c
    >>> line = c.seq(
    ...     c.field("level", c.alt(c.lit("INFO"), c.lit("WARN"))),
    ...     c.lit(" took "),
    ...     c.field("ms", c.integer),
    ...     c.lit("ms"),
    ... )
    >>> line.parse("INFO took 42ms")
    {'level': 'INFO', 'ms': 42}
    >>> line.compile().parse("WARN took 7ms")
    {'level': 'WARN', 'ms': 7}
    >>> line.compile().parse("WARN took long")
    Traceback (most recent call last):
        ...
    hastack.observe.logs.combinators.LineError: column 11: expected an integer
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, final

from hastack._core import _validate
from hastack._core._errors import HastackError, InvalidArgument
from hastack._core._extras import require

from . import _leaf_bounds, _times, _values
from ._bounds import Unbounded, cost
from ._fuse import Reader
from ._nodes import Alt, Field, Leaf, Lit, Many, Map, Miss, Node, Opt, Scan, SepBy, Seq, read
from ._times import remembering

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    class _ParsyParser:
        """What parsy's class, which ships no types, brings along."""

        def __init__(self, wrapped_fn: Callable[[Any, int], Any]) -> None: ...
        def __call__(self, stream: Any, index: int) -> Any: ...
        def parse(self, stream: Any) -> Any: ...
        def parse_partial(self, stream: Any) -> tuple[Any, Any]: ...
        def bind(self, bind_fn: Callable[[Any], Any]) -> Any: ...
        def desc(self, description: str) -> Any: ...


parsy: Any = require("parsy", extra="logs")
if not TYPE_CHECKING:
    _ParsyParser = parsy.Parser


__all__ = (
    "Compiled",
    "LineError",
    "Parser",
    "Unbounded",
    "alt",
    "boolean",
    "clf_time",
    "ctime",
    "duration",
    "epoch_time",
    "field",
    "glog_time",
    "hexadecimal",
    "http_time",
    "integer",
    "ip",
    "iso_time",
    "json_value",
    "lit",
    "many",
    "number",
    "opt",
    "pairs",
    "quoted",
    "regex",
    "rest",
    "sep_by",
    "seq",
    "size",
    "spaces",
    "syslog_time",
    "token",
    "until",
    "url",
    "uuid",
)


class LineError(HastackError, ValueError):
    """A line does not match.

    Args:
        text: The line.
        at: Where reading it got to, counted from 0.
        expected: What would have been right there.
    """

    def __init__(self, text: str, at: int, expected: tuple[str, ...]) -> None:
        super().__init__(text, at, expected)
        self.text = text
        self.at = at
        self.expected = expected

    @property
    def line(self) -> int:
        """The line of ``at`` within the text, from 1."""
        return self.text.count("\n", 0, self.at) + 1

    @property
    def column(self) -> int:
        """The column of ``at`` within its line, from 1."""
        return self.at - self.text.rfind("\n", 0, self.at)

    def __str__(self) -> str:
        *others, last = self.expected or ("something else",)
        wanted = f"{', '.join(others)} or {last}" if others else last
        place = f"column {self.column}" if self.line == 1 else f"line {self.line}, {self.column}"
        return f"{place}: expected {wanted}"


class Parser(_ParsyParser):
    """A parsy parser that is also known as a grammar.

    What parsy's own methods return is foreign to the grammar, except those that are redefined here:
    ``|``, ``>>``, ``<<``, ``optional``, ``many``, ``sep_by``, ``map`` and ``desc``.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        super().__init__(self._read)

    def _read(self, stream: Any, index: int) -> Any:
        miss = Miss()
        found = read(self.node, stream, index, miss)
        if found is None:
            return parsy.Result(False, -1, None, miss.at, frozenset(miss.expected))
        return parsy.Result(True, found[0], found[1], miss.at, frozenset(miss.expected))

    def compile(self, *, bounded: bool = True) -> Compiled:
        """Make it fast.

        Args:
            bounded: Refuse a grammar of which it cannot be said that its time is bound by the
                length of the line. Foreign parsers are such.

        Raises:
            Unbounded: It is one; the message says why.
        """
        if bounded:
            cost(self.node)
        return Compiled(self.node)

    def __or__(self, other: Any) -> Parser:
        return alt(self, other)

    def __rshift__(self, other: Any) -> Parser:
        return _then(self, other, 1)

    def __lshift__(self, other: Any) -> Parser:
        return _then(self, other, 0)

    def map(self, map_function: Callable[[Any], Any]) -> Parser:
        """The value made into another; a function that raises `ValueError` rejects the line."""
        return Parser(Map(self.node, map_function, "another value"))

    def optional(self, default: Any = None) -> Parser:
        """See `opt`."""
        return opt(self, default)

    def many(self) -> Parser:
        """See `many`."""
        return many(self)

    def times(self, min: int, max: float | None = None) -> Parser:  # noqa: A002  # parsy's names
        """At least ``min`` times, at most ``max`` or exactly ``min``; see `many`."""
        most = min if max is None else None if max == float("inf") else int(max)
        return many(self, least=min, most=most)

    def sep_by(
        self,
        sep: Any,
        *,
        min: int = 0,  # noqa: A002  # parsy's names
        max: float = float("inf"),  # noqa: A002  # parsy's names
    ) -> Parser:
        """See `sep_by`."""
        return sep_by(self, sep, least=min, most=None if max == float("inf") else int(max))

    def __repr__(self) -> str:
        return f"<Parser of {', '.join(self.node.names) or type(self.node).__name__}>"


@final
class Compiled:
    """A grammar that reads lines. Made by `Parser.compile`.

    Attributes:
        names: The fields of its records.
        fused: Whether all of it is one regular expression.
    """

    def __init__(self, node: Node) -> None:
        self._reader = Reader(node)
        self.node = node
        self.names = node.names
        self.fused = self._reader.fused
        self.match: Callable[[str, int], tuple[int, Any] | None] = self._reader.match
        """From a text and a place to the end and the value, or ``None``: for the inner loop."""
        self.read: Callable[[str], Any] = self._reader.whole
        """What `try_parse` calls: for the inner loop."""
        self.start = self._reader.start
        """A regular expression of what its lines begin with, if all of that is known."""

    def try_parse(self, text: str) -> Any:
        """The value of a whole line, or ``None``; says nothing of why."""
        return self.read(text)

    def parse(self, text: str) -> Any:
        """The value of a whole line.

        Raises:
            LineError: It does not match: where, and what was expected there.
        """
        found = self.match(text, 0)
        if found is not None and found[0] == len(text):
            return found[1]
        raise self.explain(text)

    def explain(self, text: str) -> LineError:
        """Why a line does not match; only now is that found out."""
        found = self.match(text, 0)
        miss = self._reader.explain(text)
        if found is not None:
            miss.note(found[0], "the end of the line")
        return LineError(text, max(miss.at, 0), tuple(miss.expected))


# -- combinators --------------------------------------------------------------------------


def seq(*parsers: Any) -> Parser:
    """One after the other.

    With fields inside, the value is a dict of these; values without a name are dropped. Without, it
    is the list of all values. Text stands for `lit`.
    """
    return Parser(Seq([_node(each) for each in parsers]))


def alt(*parsers: Any) -> Parser:
    """The first that matches; later ones are not tried again if what follows does not match.

    A dict has the fields of all alternatives, ``None`` where they were not read.
    """
    if not parsers:
        raise InvalidArgument("parsers", parsers, "at least one")
    return Parser(Alt([_node(each) for each in parsers]))


def opt(parser: Any, default: Any = None) -> Parser:
    """Perhaps: its value, or ``default``; a dict has ``None`` for every field."""
    return Parser(Opt(_node(parser), default))


def many(parser: Any, *, least: int = 0, most: int | None = None) -> Parser:
    """As often as it matches: a list.

    Args:
        parser: What is repeated.
        least: Fewer do not match.
        most: It stops after that many.
    """
    return Parser(Many(_node(parser), *_limits(least, most)))


def sep_by(parser: Any, separator: Any, *, least: int = 0, most: int | None = None) -> Parser:
    """Items with ``separator`` between them: a list of the items; see `many`."""
    return Parser(SepBy(_node(parser), _node(separator), *_limits(least, most)))


def field(name: str, parser: Any) -> Parser:
    """A named value."""
    return Parser(Field(_validate.text("name", name), _node(parser)))


# -- leaves -------------------------------------------------------------------------------


def lit(text: str) -> Parser:
    """Exactly this text."""
    return Parser(Lit(_validate.text("text", text)))


def regex(
    pattern: str,
    convert: Callable[[str], Any] | None = None,
    *,
    expected: str | None = None,
    kind: str = "str",
) -> Parser:
    """What a regular expression matches, perhaps converted.

    Args:
        pattern: Without groups that capture, and such that backtracking in it stays bounded.
        convert: Makes the value; `ValueError` rejects the line. Alternatives are chosen by how
            the text looks, before anything is converted.
        expected: For people: ``"a colour"``.
        kind: Name of the type, for schemas.

    Raises:
        InvalidArgument: It is no regular expression.
        Unbounded: It may take more than time in proportion to what it reads; the message says why.
    """
    try:
        _leaf_bounds.check(pattern)
    except re.error as error:
        raise InvalidArgument("pattern", pattern, f"a regular expression: {error}") from None
    return _leaf(pattern, convert, expected or f"/{pattern}/", kind)


def token(*, stop: str = " \t") -> Parser:
    """A run of characters up to one of ``stop``, at least one."""
    return _leaf(f"[^{_class(stop)}]++", None, "a word")


def until(stop: str) -> Parser:
    """Everything before ``stop``, which must come; perhaps nothing. ``stop`` itself is left."""
    _validate.text("stop", stop)
    escaped = re.escape(stop)
    if len(stop) == 1:
        pattern = f"[^{_class(stop)}]*+(?={escaped})"
    else:
        first = re.escape(stop[0])
        pattern = (
            f"[^{_class(stop[0])}]*+(?:(?!{escaped}){first}[^{_class(stop[0])}]*+)*+(?={escaped})"
        )
    return _leaf(pattern, None, f"something before {stop!r}")


def quoted(quote: str = '"', *, escape: str = "\\") -> Parser:
    """A text in quotes, without them; after ``escape`` any character stands for itself."""
    if len(quote) != 1:
        raise InvalidArgument("quote", quote, "one character")
    if len(escape) > 1 or escape == quote:
        raise InvalidArgument("escape", escape, "one other character, or nothing")
    mark, shut = re.escape(escape), _class(quote)
    if not escape:
        return _leaf(f"{re.escape(quote)}[^{shut}]*+{re.escape(quote)}", _inside, "a quoted text")
    body = f"[^{shut}{_class(escape)}]*+(?:{mark}.[^{shut}{_class(escape)}]*+)*+"
    taken_out = re.compile(f"{mark}(.)", re.DOTALL)

    def text(found: str) -> str:
        inner = found[1:-1]
        return taken_out.sub(r"\1", inner) if escape in inner else inner

    return _leaf(f"{re.escape(quote)}{body}{re.escape(quote)}", text, "a quoted text")


def _inside(found: str) -> str:
    return found[1:-1]


def _leaf(
    pattern: str,
    convert: Callable[[str], Any] | None,
    expected: str,
    kind: str = "str",
) -> Parser:
    return Parser(Leaf(pattern, convert, expected=expected, kind=kind))


def _class(characters: str) -> str:
    """Characters for the inside of a class."""
    return "".join(f"\\{char}" if char in r"\]^-[&~|" else char for char in characters)


integer = _leaf(_values.INTEGER, int, "an integer", "int")
"""A decimal integer."""

number = _leaf(_values.FLOAT, float, "a number", "float")
"""A decimal number, perhaps with an exponent."""

boolean = _leaf(_values.BOOL, _values.boolean, "true or false", "bool")
"""true, false, yes, no, on, off."""

hexadecimal = _leaf(_values.HEX, _values.hexadecimal, "a hexadecimal number", "int")
"""``0x1f``."""

ip = _leaf(_values.IP, None, "an IP address", "ip")
"""An IPv4 or IPv6 address, as text."""

uuid = _leaf(_values.UUID, None, "a UUID", "uuid")
"""A UUID, as text."""

url = _leaf(_values.URL, None, "a URL", "url")
"""A URL with its scheme, as text."""

duration = _leaf(_values.DURATION, _values.duration, "a duration", "duration")
"""``1h2m3.5s``, ``250ms``: seconds as a float."""

size = _leaf(_values.SIZE, _values.size, "a size in bytes", "size")
"""``4 KiB``, ``1.5MB``: bytes as an int."""

json_value = Parser(Scan(_values.json_value, expected="a JSON object or array", kind="object"))
"""A JSON object or array."""

pairs = Parser(Scan(_values.pairs, expected="key=value", kind="object"))
"""``key=value other="two words"``: a dict of text."""

clf_time = _leaf(_times.CLF, remembering(_times.clf), "10/Oct/2000:13:55:36 -0700", "timestamp")
"""The date of the common log format."""

http_time = _leaf(_times.HTTP, remembering(_times.http), "an HTTP date", "timestamp")
"""``Sun, 06 Nov 1994 08:49:37 GMT``."""

epoch_time = _leaf(_times.EPOCH, _times.epoch, "seconds since 1970", "timestamp")
"""Seconds, milli-, micro- or nanoseconds since 1970, by the number of digits."""

spaces = _leaf(r"[ \t]++", None, "a space")
"""At least one space or tab."""

rest = _leaf(r".*+", None, "the rest of the line")
"""Everything that is left, perhaps nothing."""


def iso_time(zone: tzinfo = UTC) -> Parser:
    """RFC 3339 and what is close to it; ``zone`` is that of timestamps that name none."""
    return _leaf(_times.ISO, _times.iso(zone), "an ISO 8601 time", "timestamp")


def ctime(zone: tzinfo = UTC) -> Parser:
    """``Thu Oct 11 22:14:15.123456 2000``."""
    return _leaf(
        _times.CTIME, remembering(_times.ctime(zone)), "Thu Oct 11 22:14:15 2000", "timestamp"
    )


def syslog_time(zone: tzinfo = UTC, now: Callable[[], datetime] | None = None) -> Parser:
    """``Oct 11 22:14:15``: the last such moment before ``now``, or up to a day after it."""
    read_time = _times.syslog(zone, now or _now)
    # Not remembered: the year depends on when it is read.
    return _leaf(_times.SYSLOG, read_time, "Oct 11 22:14:15", "timestamp")


def glog_time(zone: tzinfo = UTC, now: Callable[[], datetime] | None = None) -> Parser:
    """``1011 22:14:15.123456``: see `syslog_time`."""
    return _leaf(_times.GLOG, _times.glog(zone, now or _now), "1011 22:14:15", "timestamp")


def _now() -> datetime:
    return datetime.now(UTC)


# -- between the two worlds ---------------------------------------------------------------


def _node(parser: Any) -> Node:
    if isinstance(parser, Parser):
        return parser.node
    if isinstance(parser, str):
        return Lit(_validate.text("parser", parser))
    if isinstance(parser, parsy.Parser):
        return Scan(_foreign(parser), expected="what a foreign parser reads", bounded=False)
    raise InvalidArgument("parser", parser, "a parser, or a text")


def _foreign(parser: Any) -> Callable[[str, int], tuple[int, Any] | None]:
    def read(text: str, at: int) -> tuple[int, Any] | None:
        result = parser(text, at)
        return (result.index, result.value) if result.status else None

    return read


def _then(first: Parser, second: Any, which: int) -> Parser:
    nodes = [first.node, _node(second)]
    if nodes[which].names or nodes[1 - which].names:
        # Fields of the part that is passed over are passed over too.
        return Parser(Map(Seq([_nameless(node) for node in nodes]), _pick(which), "more"))
    return Parser(Map(Seq(nodes), _pick(which), "more"))


def _nameless(node: Node) -> Node:
    return Map(node, _same, "more") if node.names else node


def _same(value: Any) -> Any:
    return value


def _pick(which: int) -> Callable[[Any], Any]:
    def pick(values: Any) -> Any:
        return values[which]

    return pick


def _limits(least: int, most: int | None) -> tuple[int, int | None]:
    _validate.integer("least", least, minimum=0)
    if most is not None and (_validate.integer("most", most) < least):
        raise InvalidArgument("most", most, f"at least least={least}")
    return least, most
