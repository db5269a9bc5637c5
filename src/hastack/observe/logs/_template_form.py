"""A template as it is read and written: fixed text and holes, for getting values out and back in."""

from __future__ import annotations

import re
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING

from ._template_mine import compress, edges
from ._template_tokens import DATE_WORDS, HOLE, LIST, TAIL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._template_tokens import Pattern

__all__ = ("VARIABLE", "Form", "first_form")

VARIABLE = "<*>"
"""How a template's text writes a value: as the public labelled sets do."""

_HOLES = re.compile(r"\0+")
_TWO_LETTERS = re.compile(r"[A-Za-z]{2}\Z")


@lru_cache(maxsize=4096)
def _matcher(token: str) -> Callable[[str], re.Match[str] | None]:
    """Matches one word and groups what is in its holes, in time proportional to its length."""
    pieces = token.split(HOLE)
    parts = [re.escape(pieces[0])]
    for k, text in enumerate(pieces[1:], start=2):
        if k == len(pieces):
            # The only part that goes back, and what follows it is fixed.
            parts.append(f"(.*){re.escape(text)}")
        else:
            parts.append(f"([+-]?+[^{re.escape(text[0])}]*+){re.escape(text)}")
    return re.compile("".join(parts), re.DOTALL).fullmatch


def _is_soft(value: str, before: str) -> bool:
    """Whether something masked is a word all the same, as long as it is the only one seen.

    ``true``, and the digits of ``ssh2`` and ``amd64``.
    """
    if value.isalpha():
        return value not in DATE_WORDS
    return len(value) <= 3 and value.isdigit() and _TWO_LETTERS.search(before) is not None


class Form:
    """The tokens of a template.

    Args:
        tokens: Text with `HOLE` where values are; begins with `LIST` for a list, or is `TAIL`.
        masks: The same, but with every hole that may come open, too.
        gaps: The blanks in front of each token.
    """

    __slots__ = ("_get", "_plan", "gaps", "holes", "masks", "text", "tokens")

    def __init__(self, tokens: Pattern, masks: Pattern, gaps: Sequence[str]) -> None:
        self.tokens = tokens
        self.masks = masks
        self.gaps = tuple(gaps)
        self._plan = [
            (i, None if token == HOLE or token[0] in {LIST, TAIL} else _matcher(token))
            for i, (token, mask) in enumerate(zip(tokens, masks, strict=True))
            if HOLE in mask or TAIL in mask
        ]
        # Where every value is a whole token, one call gets them all.
        self._get: Callable[[Sequence[str]], tuple[str, ...]] | None = None
        if len(self._plan) > 1 and all(match is None for _, match in self._plan):
            self._get = itemgetter(*(i for i, _ in self._plan))
        self.holes = sum(len(pieces) - 1 for pieces in map(_pieces, tokens))
        self.text = "".join(
            gap + VARIABLE.join(_pieces(token)) for gap, token in zip(gaps, tokens, strict=True)
        )

    def gather(self, words: Sequence[str], pattern: Pattern) -> Sequence[str] | None:
        """One word for each token: those that are of one list are put together."""
        if len(words) == len(self.tokens):
            return words
        runs = compress(pattern)
        if len(runs) != len(self.tokens):
            return None
        gathered, at = [], 0
        for _, count in runs:
            gathered.append(" ".join(words[at : at + count]))
            at += count
        return gathered

    def values(self, words: Sequence[str], pattern: Pattern) -> tuple[str, ...] | None:
        """What is in the holes; None when the words are of another template."""
        if len(words) != len(self.tokens):
            gathered = self.gather(words, pattern)
            if gathered is None:
                return None
            words = gathered
        if self._get is not None:
            return self._get(words)
        found: list[str] = []
        for i, match in self._plan:
            if match is None:
                found.append(words[i])
            else:
                groups = match(words[i])
                if groups is None:
                    return None
                found += groups.groups()
        return tuple(found)

    def render_words(self, values: Sequence[str]) -> list[str]:
        """The tokens with these values.

        Raises:
            ValueError: There are more or fewer values than holes.
        """
        if len(values) != self.holes:
            raise ValueError(f"{self.holes} values are needed, not {len(values)}")
        rest = iter(values)
        out = []
        for token in self.tokens:
            first, *others = _pieces(token)
            out.append(first + "".join(next(rest) + text for text in others))
        return out

    def render(self, values: Sequence[str]) -> str:
        """The line with these values; raises like `render_words`."""
        said = self.render_words(values)
        return "".join(gap + word for gap, word in zip(self.gaps, said, strict=True))

    def widened(self, words: Sequence[str], pattern: Pattern) -> Form:
        """A form that fits these words as well, which are of the same template."""
        gathered = self.gather(words, pattern) or words
        tokens, masks = list(self.tokens), list(self.masks)
        for i, match in self._plan:
            if match is None or match(gathered[i]):
                continue
            if _matcher(masks[i])(gathered[i]):
                tokens[i] = masks[i]
                continue
            start, end = edges([masks[i], gathered[i]])
            wide = start + HOLE + end
            tokens[i] = masks[i] = wide if _matcher(wide)(gathered[i]) else HOLE
        return Form(tuple(tokens), tuple(masks), self.gaps)

    def joined(self, others: Sequence[Form]) -> Form:
        """A form for the lines of all, which have the same tokens but for values."""
        forms = (self, *others)
        tokens, masks = [], []
        for said, kinds in zip(
            zip(*(form.tokens for form in forms), strict=True),
            zip(*(form.masks for form in forms), strict=True),
            strict=True,
        ):
            if len(set(kinds)) > 1:
                start, end = edges(kinds)
                masks.append(start + HOLE + end)
                tokens.append(masks[-1])
            else:
                masks.append(kinds[0])
                tokens.append(said[0] if len(set(said)) == 1 else kinds[0])
        return Form(tuple(tokens), tuple(masks), self.gaps)

    def with_lists(self, pattern: Pattern, lists: Pattern) -> Form:
        """The form with lists where ``lists``, its compressed ``pattern``, has them."""
        tokens, masks, gaps, at = [], [], [], 0
        for (_, count), token in zip(compress(pattern), lists, strict=True):
            is_list = token[0] == LIST
            tokens.append(token if is_list else self.tokens[at])
            masks.append(token if is_list else self.masks[at])
            gaps.append(self.gaps[at])
            at += count
        return Form(tuple(tokens), tuple(masks), gaps)


def _pieces(token: str) -> list[str]:
    """The fixed text before, between and after the holes of a token."""
    return ["", ""] if token[0] in {LIST, TAIL} else token.split(HOLE)


def first_form(line: str, words: Sequence[str], pattern: Pattern) -> Form:
    """The form that the first line of a template gives."""
    tokens, masks = [], []
    for word, kind in zip(words, pattern, strict=True):
        mask = kind if kind == TAIL else _HOLES.sub(HOLE, kind)
        if HOLE not in mask:
            tokens.append(mask)
            masks.append(mask)
            continue
        found = None if mask == HOLE else _matcher(mask)(word)
        if found is None:
            mask = HOLE  # a value holds what separates it from the next one
        masks.append(mask)
        tokens.append(_softened(mask, found.groups() if found else (word,)))
    return Form(tuple(tokens), tuple(masks), _gaps(line, len(tokens)))


def _softened(mask: str, values: Sequence[str]) -> str:
    text, *rest = mask.split(HOLE)
    for value, after in zip(values, rest, strict=True):
        text += (value if _is_soft(value, text) else HOLE) + after
    return text


def _gaps(line: str, count: int) -> list[str]:
    """The blanks in front of each token, as far as they are spaces."""
    gaps = [gap if gap.strip(" ") == "" else " " for gap in re.findall(r"\s+", line.strip())]
    return ["", *gaps, *[" "] * count][:count]
