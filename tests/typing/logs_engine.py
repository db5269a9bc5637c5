"""What a user of the log engine sees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, assert_type

from hastack.observe import logs
from hastack.observe.logs.sources import Source, source_of


class Sink:
    def write(self, batch: logs.Parsed) -> None:
        assert_type(batch.records, list[dict[str, Any]])
        assert_type(batch.lines, int)


class Stage:
    def apply(self, batch: object) -> None: ...


engine = logs.Engine(Path("x"), parser=logs.Parser(), stages=[Stage(), logs.SchemaTracker()])
assert_type(engine.run(Sink()), logs.Account)
assert_type(engine.run(print), logs.Account)
assert_type(next(engine), logs.Parsed)
assert_type(engine.records(), Iterator[dict[str, Any]])
assert_type(engine.records_async(), AsyncIterator[dict[str, Any]])
assert_type(engine.account().balanced, bool)
assert_type(logs.Where("a == 1")({"a": 1}), bool)
assert_type(source_of("x"), Source)

with logs.Engine(["a"], where=logs.Where("a"), redact=logs.Redactor(), fold=logs.Folder()) as run:
    assert_type(run, logs.Engine)
    for batch in run:
        assert_type(batch, logs.Parsed)

follow: Source = logs.Follow("a", Path("b"), start="end")
listener: Source = logs.SyslogListener()


async def use() -> None:
    async with logs.Engine(listener) as asynchronous:
        async for batch in asynchronous:
            assert_type(batch, logs.Parsed)
        assert_type(await asynchronous.run_async(Sink()), logs.Account)
