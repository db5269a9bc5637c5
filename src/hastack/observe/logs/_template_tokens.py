"""Tokens of a log line, and what of them is plainly a value whatever the line says."""

from __future__ import annotations

import re

__all__ = (
    "DATE_WORDS",
    "HOLE",
    "LIST",
    "OPEN",
    "TAIL",
    "Pattern",
    "Reader",
    "mask",
    "normal",
    "word_set",
)


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


HOLE = "\0"
"""Stands for a value that gives itself away by its looks."""
LIST = "\1"
"""In front of a masked token: one or more of that kind, one after the other."""
OPEN = "\2"
"""Stands for a value that only the other lines give away."""
TAIL = "\3"
"""Stands for all that is left of a line with too many tokens or characters."""

Pattern = tuple[str, ...]

# Tokens are masked by their shape, every digit a zero, so that one answer serves many. The marks
# above mean nothing in a line: a hole takes their place. Bytes, as they are translated ten times
# as fast as text; those of other characters stay.
_SHAPE = bytes.maketrans(b"123456789\1\2\3\5", b"000000000\0\0\0\0")

_ZONES = "com|net|org|edu|gov|mil|int|info|biz|io|arpa|local|localdomain|[a-z]{2}"
# Java packages end as hosts do; their first word gives them away.
_PACKAGE = "com|org|net|java|javax|android|sun|io"
_HOST = rf"(?!(?:{_PACKAGE})\.)(?:[A-Za-z0-9][A-Za-z0-9-]{{0,62}}+\.){{2,12}}(?:{_ZONES})"
_START = r"(?<![A-Za-z0-9_])"
_PLAIN_VALUE = re.compile(
    "|".join(
        (
            r"(?<![A-Za-z])[A-Za-z][A-Za-z0-9+.-]{1,15}+://[^\s\"'<>,;)\]}]++",
            rf"{_START}[0-9a-fA-F]{{8}}-(?:[0-9a-fA-F]{{4}}-){{3}}[0-9a-fA-F]{{12}}(?![\w-])",
            rf"{_START}(?:[0-9a-fA-F]{{2}}[:-]){{5,7}}[0-9a-fA-F]{{2}}(?![\w:-])",
            r"(?<![\w.])0{1,3}\.0{1,3}\.0{1,3}\.0{1,3}(?![\w.])",
            # At least two slashes: one alone also divides words (`and/or`).
            r"(?<![\w.*/])(?:/|~/|[A-Z]:[\\/]|\\\\)[\w.+@%$~#-]++[\\/][\w.+@%$~#\\/:*-]*(?<![:.])",
            rf"{_START}{_HOST}(?![\w.-])",
            rf"{_START}0[xX][0-9a-fA-F]++(?!\w)",
            rf"{_START}0000[-/]00[-/]00(?:[T_-]00[:.]00[:.]00(?:[.,]0+)?(?:Z|[+-]00:?00)?)?(?!\w)",
            rf"{_START}0{{1,2}}:00(?::00)?(?:[.,]0+)?(?![\w:])",
            r"(?<![\w.])[+-]?0+(?>(?:\.0+)+)(?:[eE][+-]?0+)?(?![0-9A-Za-z_])",
            # Hexadecimal without a prefix: long, both letters and digits.
            rf"{_START}(?=[a-fA-F]*0)(?=0*[a-fA-F])(?:[0a-f]{{6,}}+|[0A-F]{{6,}}+)(?!\w)",
            r"(?<!\S)<0+(?:\.0+)?(?:\x04[a-zA-Z]{1,4})?\Z",
            # Constants, and whatever is quoted, where a key says that a value follows.
            r"(?<=[=:(])(?:true|false|null|None|True|False)(?=[,;)\]}]|\Z)",
            r"(?<=[=:]\")[^\"]+(?=\")",
        )
    )
)
_SUSPECT = re.compile(r"[0./\\=:(]")
_WORD = re.compile(r"[A-Za-z0-9_-]*0[A-Za-z0-9_-]*")
_TRUTH = re.compile(r"(?:true|false|TRUE|FALSE|True|False)(?=[,;.]?\Z)")
_RUN = re.compile(r"\0(?:[^A-Za-z0-9\s]{0,2}\0)+")

DATE_WORDS = word_set("Mon Tue Wed Thu Fri Sat Sun Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec")
# A blank inside these divides no tokens: `<1 sec`, `tag="View Lock"`. A sentence that is quoted
# without a key stays a sentence.
_QUANTITY = re.compile(r" <[0-9]++(?:\.[0-9]++)? [a-zA-Z]{1,4}(?=\s|\Z)")
_QUOTED = re.compile(r'="[^"\x04]{1,200}"')
_BRACED = re.compile(r"=[A-Za-z]{1,40}\{[^{}=\x04]{1,200}\}")
# Names that may be empty: `invalid user  from 10.0.0.7`.
_NAMELESS = re.compile(
    r"  (?=\S)(?:(?<=user  )|(?<=username  )|(?<=host  )|(?<=name  )|(?<=for  )|(?<=from  ))"
)
_EMPTY = "\5"
_BLANK = re.compile(r"\s")
_JOINT = "\4"
_LONG_TOKEN = 1024
_REMEMBERED_TOKEN = 256


def _mask_word(found: re.Match[str]) -> str:
    """A word with digits: the letters in front say what it is, and stay."""
    text = found[0]
    start = text.index("0")
    head, tail = text[:start], text[start:]
    if head[-2:] in {"-", "_-"}:  # a sign
        head = head[:-1]
    pieces = tail.split("_")
    if all(pieces) and not any(piece.strip("0") for piece in pieces):
        return head + "_".join([HOLE] * len(pieces))
    rest = tail.lstrip("0")
    # `jk2_init` and `10ms` end with words, `attempt_07_m_01` and `a1f-07c` with more of the value.
    return head + HOLE + (rest if "0" not in rest and "-" not in rest else "")


def mask(token: str) -> str:
    """The shape of a token, with holes for numbers, addresses, paths, names of hosts and the like."""
    if len(token) > _LONG_TOKEN:
        return HOLE
    if not _SUSPECT.search(token):
        return _TRUTH.sub(HOLE, token)
    masked = _PLAIN_VALUE.sub(HOLE, token)
    return _WORD.sub(_mask_word, masked) if "0" in masked else masked


def normal(token: str) -> str:
    """A masked token without how many values there were side by side."""
    return _RUN.sub(HOLE, token)


class _MaskMemory(dict[str, str]):
    """Masked tokens by their shape; forgets all of them when full."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __missing__(self, token: str) -> str:
        masked = mask(token)
        if len(token) <= _REMEMBERED_TOKEN:
            if len(self) >= self._limit:
                self.clear()
            self[token] = masked
        return masked


class Reader:
    """Turns lines into patterns, remembering tokens it has masked before.

    Args:
        max_tokens: Tokens that are looked at; the rest of a line is one value.
        max_chars: Characters that are looked at, likewise.
        memory: Masked tokens that are remembered.
    """

    def __init__(self, *, max_tokens: int, max_chars: int, memory: int) -> None:
        self._max_tokens = max_tokens
        self._max_chars = max_chars
        self._masked = _MaskMemory(memory)
        self._mask = self._masked.__getitem__

    def read(self, line: str) -> tuple[Pattern, list[str]]:
        """The masked tokens of ``line``, and the tokens themselves."""
        if len(line) > self._max_chars:
            return self._with_tail(line)
        text = line
        if "  " in line or '="' in line or " <" in line or "{" in line:
            text = _join(line)
        said = text.split()
        if len(said) > self._max_tokens:
            return self._with_tail(line)
        masked = list(map(self._mask, _shape(text).split()))
        if not DATE_WORDS.isdisjoint(masked):
            _mask_dates(masked)
        if text is not line:
            said = ["" if word == _EMPTY else word.replace(_JOINT, " ") for word in said]
        return tuple(masked), said

    def _with_tail(self, line: str) -> tuple[Pattern, list[str]]:
        most = self._max_tokens
        start = line.lstrip()[: self._max_chars]
        tokens = _shape(start).split(None, most)[:most]
        # The last token that is left may go on behind what is looked at.
        masked = [*map(self._mask, tokens[:-1]), *[TAIL][: len(tokens)]]
        _mask_dates(masked)
        return tuple(masked), line.split(None, len(masked) - 1)


def _shape(text: str) -> str:
    shape = text.encode("utf-8", "surrogatepass").translate(_SHAPE)
    return shape.decode("utf-8", "surrogatepass")


def _join(line: str) -> str:
    """``line`` with joints for the blanks inside values; the line itself when it has none."""
    if _JOINT in line or _EMPTY in line:
        return line
    joined = line
    if "  " in line:
        joined = _NAMELESS.sub(f" {_EMPTY} ", joined)
    if " <" in line:
        joined = _QUANTITY.sub(lambda found: " " + found[0][1:].replace(" ", _JOINT), joined)
    if '="' in line:
        joined = _QUOTED.sub(_jointed, joined)
    if "{" in line:
        joined = _BRACED.sub(_jointed, joined)
    return line if joined == line else joined


def _jointed(found: re.Match[str]) -> str:
    return _BLANK.sub(_JOINT, found[0])


def _mask_dates(tokens: list[str]) -> None:
    """``Wed Jul 27 10:59:53``: such a word is a value in front of a number or another one."""
    for i in range(len(tokens) - 2, -1, -1):
        if tokens[i] in DATE_WORDS and tokens[i + 1][0] == HOLE:
            tokens[i] = HOLE
