"""Formats and schemas that follow their configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import attrs

from hastack._core._errors import InvalidArgument
from hastack.config import Watched

from ._batch import Counts
from ._settings import LOGS
from .parser import Parser
from .schema import Schemas

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hastack.config import Config

    from ._batch import Batch
    from ._protocols import BatchLike
    from ._settings import LogsConfig
    from .parser import Explanation
    from .schema import Applied

__all__ = ("LiveParser",)


@attrs.frozen
class _State:
    """What one configuration says, replaced whole."""

    parser: Parser
    schemas: Schemas


@final
class LiveParser:
    """A parser, and its schemas, as the ``logs`` table says, and goes on saying.

    Stands in for a `Parser`, also in an `Engine` with one process; what it reads has been made what
    the schemas say. A reload is followed by
    the whole configuration or not at all: a pattern that is none or a file of schemas that cannot
    be read refuses it, with the reason as the mistake. A batch is read, and made what the schemas
    say, by one configuration; counts go on. It follows until `close`.

    Args:
        watched: Made by `hastack.config.watch`.
        **options: For `Parser`, what only code can say: ``templates``, ``zone``, ``now``.

    Raises:
        InvalidArgument: ``watched`` is none, or a setting does not fit.
        OSError: The file of schemas cannot be read.

    Example:
        >>> from hastack import config
        >>> from hastack.observe import logs
        >>> table = {"logs": {"patterns": {"shop": "%{WORD:what} took %{INT:took:int}"}}}
        >>> parser = logs.LiveParser(config.watch(env=None, override=table))
        >>> parser.parse("order took 7")
        {'what': 'order', 'took': 7}
        >>> parser.close()
    """

    def __init__(self, watched: Watched[Config], **options: Any) -> None:
        if not isinstance(watched, Watched):
            raise InvalidArgument(
                "watched", watched, "a configuration made by hastack.config.watch"
            )
        self._options = options
        self._before = Counts()
        self._gone: Parser | None = None
        self._state = self._made(LOGS.of(watched.current))
        self._end = watched.prepare("logs", self._prepare)

    def parse(self, line: str | bytes) -> dict[str, Any] | None:
        """See `Parser.parse`."""
        return self._state.parser.parse(line)

    def parse_lines(self, lines: Iterable[str | bytes]) -> Batch:
        """See `Parser.parse_lines`; the schemas have been applied."""
        state = self._state
        batch = state.parser.parse_lines(lines)
        state.schemas.apply(batch)
        return batch

    def explain(self, line: str | bytes) -> Explanation:
        """See `Parser.explain`."""
        return self._state.parser.explain(line)

    def apply(self, batch: BatchLike) -> dict[str, Applied]:
        """See `Schemas.apply`: for batches that another parser read."""
        return self._state.schemas.apply(batch)

    @property
    def schemas(self) -> Schemas:
        """Those in force."""
        return self._state.schemas

    @property
    def counts(self) -> Counts:
        """What was read so far, under every configuration."""
        found = Counts()
        found.add(self._before)
        if self._gone is not None:
            found.add(self._gone.counts)
        found.add(self._state.parser.counts)
        return found

    def close(self) -> None:
        """Follow no longer; it reads on as it is."""
        self._end()

    def _made(self, settings: LogsConfig) -> _State:
        from . import formats, grok

        own = [grok.compile(name, text) for name, text in settings.patterns.items()]
        known = settings.formats
        if known is None:
            known = tuple(each.name for each in formats.known())
        parser = Parser(
            [*own, *known],
            longest=settings.longest,
            fallback=settings.fallback,
            **self._options,
        )
        schemas = Schemas() if settings.schemas is None else Schemas.load(settings.schemas)
        return _State(parser, schemas)

    def _prepare(self, old: Config, new: Config) -> _Change | None:
        before, after = LOGS.of(old), LOGS.of(new)
        return None if before == after else _Change(self, self._made(after))

    def _follow(self, state: _State) -> None:
        # A batch under way still adds to the counts of the one that goes: it is kept for a while.
        if self._gone is not None:
            self._before.add(self._gone.counts)
        self._gone, self._state = self._state.parser, state

    def __reduce__(self) -> Any:
        raise InvalidArgument("parser", self, "one for worker processes: they hear of no reload")

    def __repr__(self) -> str:
        return f"<LiveParser of {len(self._state.parser.formats)} formats, {self._state.schemas!r}>"


@final
@attrs.frozen
class _Change:
    parser: LiveParser
    state: _State

    def commit(self) -> None:
        self.parser._follow(self.state)

    def abort(self) -> None:
        """Nothing was taken."""
