"""A small language that chooses records: ``status >= 500 and path contains "/api"``.

Nothing of it is evaluated as Python. An expression is read once into closures; what it costs a
record is bounded by its length, and regular expressions are those whose cost is.
"""

from __future__ import annotations

import datetime as dt
import operator
import re
from typing import TYPE_CHECKING, Any, final

from hastack._core._errors import InvalidArgument

from ._bounds import Unbounded
from ._leaf_bounds import check

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Test = Callable[[Mapping[str, Any]], Any]

__all__ = ("Where", "WhereMistake")

_LONGEST = 10_000  # characters of an expression
_DEEPEST = 50  # parentheses and "not" inside each other
_SEARCHED = 4096  # characters of a value in which a regular expression searches

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?P<unit>[A-Za-z]+)?
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<quoted>`[^`]+`)
    |(?P<word>[A-Za-z_@][\w@-]*(?:\.[\w@-]+)*)
    |(?P<sign>==|!=|<=|>=|=|<|>|\(|\)|\[|\]|,)
    )""",
    re.VERBOSE,
)
_UNITS = {
    "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0,
    "B": 1, "kB": 1000, "KB": 1000, "MB": 10**6, "GB": 10**9,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}  # fmt: skip
_ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONSTANTS: dict[str, object] = {"true": True, "false": False, "null": None}
_WORDS = {"and", "or", "not", "in", "contains", "matches", "startswith", "endswith"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class WhereMistake(InvalidArgument):
    """An expression that cannot be read.

    Attributes:
        column: Where, from 1.
        expected: What was expected there.
    """

    def __init__(self, expression: str, at: int, expected: str) -> None:
        super().__init__("where", expression, expected)
        self.expression = expression
        self.column = at + 1
        self.expected = expected

    def __str__(self) -> str:
        return f"where: column {self.column}: expected {self.expected}"

    def __reduce__(self) -> tuple[object, ...]:
        return (WhereMistake, (self.expression, self.column - 1, self.expected))

    def drawn(self) -> str:
        """The expression, a caret below the place, and what was expected."""
        line = self.expression.replace("\n", " ")
        return f"{line}\n{' ' * (self.column - 1)}^ expected {self.expected}"


@final
class Where:
    r"""A filter over records, written as text. Call it with a record.

    ==========================================  ==========================================
    ``status >= 500``, ``==``, ``!=``, ``<``     values of one kind
    ``took > 250ms``, ``size > 4KiB``            durations in seconds, sizes in bytes
    ``time >= "2026-10-10T12:00:00Z"``           a moment and a text that says one
    ``level in ("warn", "error")``               one of several; ``not in``
    ``path contains "/api"``                     a part of a text, an item, a key
    ``path startswith "/"``, ``endswith``
    ``agent matches "curl/[0-9]"``               a regular expression
    ``user``, ``user == null``                   a field that is there; that is missing
    ``not``, ``and``, ``or``, ``( )``            in this order
    ``http.status``                              a field of a field; or in backquotes
    ==========================================  ==========================================

    Args:
        expression: The text.

    Raises:
        WhereMistake: It cannot be read, or a regular expression in it might run away.

    Example:
        >>> from hastack.observe import logs
        >>> slow = logs.Where("took > 250ms and not path startswith '/health'")
        >>> slow({"took": 0.3, "path": "/order"}), slow({"took": 0.3, "path": "/health"})
        (True, False)
        >>> logs.Where("status >= and")
        Traceback (most recent call last):
            ...
        hastack.observe.logs._where.WhereMistake: where: column 11: expected a value or a field
    """

    __slots__ = ("_test", "expression")

    def __init__(self, expression: str) -> None:
        if not isinstance(expression, str):
            raise InvalidArgument("expression", expression, "a text")
        self.expression = expression
        self._test = _Reader(expression).read()

    def __call__(self, record: Mapping[str, Any]) -> bool:
        """Whether a record fits."""
        return bool(self._test(record))

    def __repr__(self) -> str:
        return f"Where({self.expression!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (Where, (self.expression,))


class _Reader:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._depth = 0
        self._tokens: list[tuple[str, str, int]] = []
        if len(expression) > _LONGEST:
            raise self._mistake(_LONGEST, f"at most {_LONGEST} characters")
        at = 0
        end = len(expression.rstrip())
        while at < end:
            found = _TOKEN.match(expression, at)
            if found is None:
                at += len(expression[at:]) - len(expression[at:].lstrip())
                wrong = "a closing quote" if expression[at] in "\"'`" else "a field, value or sign"
                raise self._mistake(at, wrong)
            kind = "number" if found["number"] else str(found.lastgroup)
            start = found.start(kind)
            self._tokens.append((kind, found[0].lstrip(), start))
            at = found.end()
        self._tokens.append(("end", "", len(expression)))
        self._next = 0

    def _mistake(self, at: int, expected: str) -> WhereMistake:
        return WhereMistake(self._expression, at, expected)

    def _peek(self) -> str:
        kind, text, _ = self._tokens[self._next]
        return text if kind in {"sign", "word", "end"} else f"\0{kind}"

    def _take(self, *texts: str) -> str | None:
        text = self._peek()
        if text in texts:
            self._next += 1
            return text
        return None

    def read(self) -> Test:
        test = self._either()
        if self._tokens[self._next][0] != "end":
            raise self._mistake(self._tokens[self._next][2], "'and', 'or', or the end")
        return test

    def _either(self) -> Test:
        tests = [self._both()]
        while self._take("or"):
            tests.append(self._both())
        if len(tests) == 1:
            return tests[0]
        return lambda record: any(test(record) for test in tests)

    def _both(self) -> Test:
        tests = [self._negation()]
        while self._take("and"):
            tests.append(self._negation())
        if len(tests) == 1:
            return tests[0]
        return lambda record: all(test(record) for test in tests)

    def _negation(self) -> Test:
        at = self._tokens[self._next][2]
        if self._take("not"):
            with_in = self._deeper(at, self._negation)
            return lambda record: not with_in(record)
        if self._take("("):
            inner = self._deeper(at, self._either)
            if not self._take(")"):
                raise self._mistake(self._tokens[self._next][2], "')'")
            return inner
        return self._comparison()

    def _deeper(self, at: int, read: Callable[[], Test]) -> Test:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._mistake(at, f"at most {_DEEPEST} levels")
        test = read()
        self._depth -= 1
        return test

    def _comparison(self) -> Test:
        left = self._operand()
        sign = self._take("==", "=", "!=", *_ORDERS)
        if sign is not None:
            return _compared(sign, left, self._operand())
        if self._take("not"):
            if not self._take("in"):
                raise self._mistake(self._tokens[self._next][2], "'in'")
            among = self._among(left)
            return lambda record: not among(record)
        if self._take("in"):
            return self._among(left)
        if self._take("matches"):
            return self._matching(left)
        word = self._take("contains", "startswith", "endswith")
        if word is not None:
            return _PARTS[word](left, self._operand())
        return left

    def _among(self, left: Test) -> Test:
        opening = self._take("(", "[")
        if opening is None:
            raise self._mistake(self._tokens[self._next][2], "a list such as ('a', 'b')")
        closing = ")" if opening == "(" else "]"
        items = [self._operand()]
        while self._take(","):
            items.append(self._operand())
        if not self._take(closing):
            raise self._mistake(self._tokens[self._next][2], f"',' or '{closing}'")
        tests = [_compared("==", left, item) for item in items]
        return lambda record: any(test(record) for test in tests)

    def _matching(self, left: Test) -> Test:
        kind, text, at = self._tokens[self._next]
        if kind != "text":
            raise self._mistake(at, "a regular expression in quotes")
        self._next += 1
        pattern = _unquoted(text)
        try:
            check(pattern)
            search = re.compile(pattern).search
        except (Unbounded, re.error, OverflowError, RecursionError) as error:
            raise self._mistake(at, f"a regular expression of bounded cost: {error}") from None

        def matches(record: Mapping[str, Any]) -> bool:
            value = left(record)
            return isinstance(value, str) and search(value[:_SEARCHED]) is not None

        return matches

    def _operand(self) -> Test:
        kind, text, at = self._tokens[self._next]
        if kind == "number":
            self._next += 1
            return _constant(self._number(text, at))
        if kind == "text":
            self._next += 1
            return _constant(_unquoted(text))
        if kind == "quoted":
            self._next += 1
            return _field([text[1:-1]])
        if kind == "word" and text not in _WORDS:
            self._next += 1
            if text in _CONSTANTS:
                return _constant(_CONSTANTS[text])
            return _field(text.split("."))
        raise self._mistake(at, "a value or a field")

    def _number(self, text: str, at: int) -> float | int:
        digits = re.match(r"-?[\d.]+(?:[eE][+-]?\d+)?", text)
        assert digits is not None
        unit = text[digits.end() :]
        value = float(digits[0]) if re.search(r"[.eE]", digits[0]) else int(digits[0])
        if not unit:
            return value
        if unit not in _UNITS:
            raise self._mistake(at + digits.end(), f"a unit of {', '.join(_UNITS)}")
        return value * _UNITS[unit]


def _unquoted(text: str) -> str:
    """The content of a quoted text. A backslash before anything special to a regex stays."""

    def plain(found: re.Match[str]) -> str:
        letter = found[1]
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        return letter if letter in "\"'\\" else found[0]

    return re.sub(r"\\(.)", plain, text[1:-1], flags=re.DOTALL)


def _constant(value: object) -> Test:
    return lambda _: value


def _field(path: list[str]) -> Test:
    name = ".".join(path)
    if len(path) == 1:
        return lambda record: record.get(name)

    def nested(record: Mapping[str, Any]) -> object:
        found: Any = record.get(name)
        if found is not None:
            return found
        found = record
        for each in path:
            if not isinstance(found, dict):
                return None
            found = found.get(each)
        return found

    return nested


def _compared(sign: str, left: Test, right: Test) -> Test:
    if sign in {"==", "="}:
        return lambda record: _equal(left(record), right(record))
    if sign == "!=":
        return lambda record: not _equal(left(record), right(record))
    order = _ORDERS[sign]

    def ordered(record: Mapping[str, Any]) -> bool:
        one, other = _alike(left(record), right(record))
        try:
            return one is not None and other is not None and bool(order(one, other))
        except TypeError:
            return False  # a text and a number are in no order

    return ordered


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, bool) is not isinstance(other, bool):
        return False  # in Python 1 == True
    one, other = _alike(one, other)
    return bool(one == other)


def _alike(one: Any, other: Any) -> tuple[Any, Any]:
    """A moment and a text: two moments."""
    if isinstance(one, dt.datetime):
        return _aware(one), _aware(other)
    if isinstance(other, dt.datetime):
        return _aware(one), _aware(other)
    return one, other


def _aware(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        return value.replace(tzinfo=dt.UTC)
    return value


def _contains(left: Test, right: Test) -> Test:
    def contains(record: Mapping[str, Any]) -> bool:
        whole, part = left(record), right(record)
        if isinstance(whole, str):
            return isinstance(part, str) and part in whole
        return isinstance(whole, (list, tuple, dict)) and part in whole

    return contains


def _at_an_end(method: Callable[[str, str], bool]) -> Callable[[Test, Test], Test]:
    def made(left: Test, right: Test) -> Test:
        def holds(record: Mapping[str, Any]) -> bool:
            whole, part = left(record), right(record)
            return isinstance(whole, str) and isinstance(part, str) and method(whole, part)

        return holds

    return made


_PARTS: dict[str, Callable[[Test, Test], Test]] = {
    "contains": _contains,
    "startswith": _at_an_end(str.startswith),
    "endswith": _at_an_end(str.endswith),
}
