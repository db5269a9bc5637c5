"""Runs the Python blocks of README.md and docs/*.md as tests, and keeps examples apart."""

from __future__ import annotations

import gc
import os
from doctest import ELLIPSIS
from typing import TYPE_CHECKING

import coverage
import pytest
from sybil import Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

if TYPE_CHECKING:
    from collections.abc import Generator


def _hold_coverage_over_forks() -> None:
    """Forked children must not inherit the tracer's lock from a thread that they do not have.

    Coverage takes that lock whenever a thread enters a file anew. Held by the forking thread it
    is free in the child. Registered before hastack's own hooks, which are traced, this runs last
    before the fork and first after it.
    """
    global _held
    measuring = coverage.Coverage.current()
    lock = getattr(getattr(measuring, "_collector", None), "data_lock", None)
    if lock is not None and lock is not _held:
        _held = lock
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )


# What other tests left behind is not for a forked child to collect: objects of gRPC crash there.
os.register_at_fork(after_in_child=gc.freeze)

_held: object = None
_hold_coverage_over_forks()  # except in a worker, coverage has begun by now


@pytest.hookimpl(trylast=True)  # after pytest-cov, which begins to measure a worker here
def pytest_sessionstart() -> None:
    """Nothing imports hastack before: coverage looks for sources, and forgets what that loaded."""
    _hold_coverage_over_forks()
    # A module with examples must not be loaded a second time by whoever collects them.
    import hastack.observe.logs.formats._registry
    import hastack.observe.logs.parser  # noqa: F401


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    excludes=["docs/tutorial.md"],  # followed as a whole by tests/integration/test_tutorial.py
).pytest()


_pages = pytest.StashKey[tuple[set[int], set[str]]]()  # what was there before the pages


def _now() -> tuple[set[int], set[str]]:
    import hastack.observe  # noqa: F401  # adds its table once: a test must not seem to have done it
    from hastack import events
    from hastack._config import _settings

    return set(events._subscriptions), set(_settings._sections)


def _back_to(before: tuple[set[int], set[str]]) -> None:
    """What serves for the life of a process, subscriptions and sections, is there no more."""
    from hastack import events
    from hastack._config import _settings

    with events._lock:
        left = set(events._subscriptions) - before[0]
        for number in left:
            del events._subscriptions[number]
        if left:
            events._rebuild()
    for name in set(_settings._sections) - before[1]:
        del _settings._sections[name]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Each test starts anew; the examples of one page build on each other."""
    stash = item.config.stash
    if isinstance(item, SybilItem):
        if _pages not in stash:
            stash[_pages] = _now()
        return (yield)
    if _pages in stash:
        _back_to(stash[_pages])
        del stash[_pages]
    before = _now()
    result = yield
    _back_to(before)
    return result
