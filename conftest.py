"""Runs the Python blocks of README.md and docs/*.md as tests, and keeps examples apart."""

from __future__ import annotations

from doctest import ELLIPSIS
from typing import TYPE_CHECKING

import pytest
from sybil import Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

from hastack import events

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
).pytest()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What serves for the life of a process subscribes for as long; the next test starts anew."""
    before = set(events._subscriptions)
    result = yield
    if not isinstance(item, SybilItem):  # the examples of one page build on each other
        left = set(events._subscriptions) - before
        with events._lock:
            for number in left:
                del events._subscriptions[number]
            if left:
                events._rebuild()
    return result
