"""Why two lines have one template, or two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ._template_mine import compress, judge
from ._template_tokens import OPEN, normal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._template_index import Index
    from ._template_tokens import Pattern

__all__ = ("Difference", "TemplateExplanation", "explain")


@attrs.frozen
class Difference:
    """Where two lines differ.

    Attributes:
        first: What the one says there.
        second: What the other says.
        why: Why this keeps them apart, or why not.
    """

    first: str
    second: str
    why: str


@attrs.frozen
class TemplateExplanation:
    """Why two lines have one template, or two.

    Attributes:
        together: Whether they have the same.
        texts: The template of each; empty where none is known.
        differences: Where they differ, from left to right.
    """

    together: bool
    texts: tuple[str, str]
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        first, second = self.texts
        head = f"together, as {first!r}" if self.together else f"apart, as {first!r} and {second!r}"
        return "\n".join([head, *(f"{d.first} | {d.second}: {d.why}" for d in self.differences)])


def explain(
    index: Index, first: tuple[Pattern, list[str]], second: tuple[Pattern, list[str]]
) -> TemplateExplanation:
    """Compares two lines, given as patterns and tokens."""
    a, b = index.find(first[0]), index.find(second[0])
    texts = (a.form.text if a else "", b.form.text if b else "")
    left, right = _grouped(*first), _grouped(*second)
    together = a is not None and a is b
    if len(left) != len(right):
        why = f"{len(left)} tokens and {len(right)}: no columns to compare"
        return TemplateExplanation(
            together, texts, (Difference(" ".join(first[1]), " ".join(second[1]), why),)
        )
    row = a.row if together and a else tuple(token for token, _ in right)
    reasons = a.reasons if together and a else {}
    found = []
    for i, ((x, said), (y, other)) in enumerate(zip(left, right, strict=True)):
        if said == other:
            continue
        if x == y:
            why = "values by their looks"
        elif together:
            opened = f"a value: {reasons[i]}" if i in reasons else "a value in this template"
            why = opened if OPEN in row[i] else "values by their looks"
        else:
            verdict = judge([x, y], row, i)
            why = (
                f"could be a value: {verdict}"
                if verdict
                else "too few different words to be values"
            )
        found.append(Difference(said, other, why))
    return TemplateExplanation(together, texts, tuple(found))


def _grouped(pattern: Pattern, words: Sequence[str]) -> Sequence[tuple[str, str]]:
    """Masked tokens and what they stand for; lists are one."""
    said = iter(words)
    runs = compress(tuple(map(normal, pattern)))
    return [(token, " ".join(next(said) for _ in range(count))) for token, count in runs]
