"""Mistakes in the configuration, in the words of ``hastack config check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hastack.cli._config import line_of

from ._finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._looking import Looking

__all__ = ("settings",)


def settings(looking: Looking) -> Iterator[Finding]:
    """One line for each mistake, or one that says that there is none."""
    places = ", ".join((*looking.files, "environment"))
    for number, mistake in enumerate(looking.mistakes, 1):
        yield Finding(
            section="config",
            name=f"mistake {number}",
            status="broken",
            says=line_of(mistake),
            facts={
                "path": mistake.path,
                "problem": mistake.problem,
                "accepted": mistake.accepted,
                "source": mistake.source,
            },
        )
    if not looking.mistakes:
        yield Finding(section="config", name="mistakes", says=f"none in {places}")
