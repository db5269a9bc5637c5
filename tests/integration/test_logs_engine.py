"""The log engine on real files, archives, pipes and processes."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import json
import lzma
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import attrs
import pytest
from two_line_parser import WORD, TwoLineParser

from hastack import config, context, events
from hastack.errors import Cancelled, ClosedError, DeadlineExceeded, InvalidArgument, WorkerDied
from hastack.lifecycle import Lifecycle
from hastack.observe import logs
from hastack.observe.logs import _engine_events, _workers
from hastack.observe.logs.engine import LinesLost

COUNT = 30_000


def pairs(count: int = COUNT) -> bytes:
    return b"".join(b"key%d=%d\n" % (n, n) for n in range(count))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.log"
    path.write_bytes(pairs() + b"?? no end")
    return path


def values(engine: logs.Engine) -> list[Any]:
    return [record["value"] for record in engine.records() if "value" in record]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_file_comes_whole_in_order_and_with_its_account(file: Path, processes: int) -> None:
    with events.record(_engine_events.RunStarted, _engine_events.RunEnded) as seen:
        engine = logs.Engine(file, parser=TwoLineParser, processes=processes)
        numbers: list[int] = []
        found: list[Any] = []
        for batch in engine:
            numbers += batch.numbers
            found += [record["value"] for record in batch.records]
            assert batch.lines == len(batch.records) + len(batch.rejects)
    assert found == list(range(COUNT)) == numbers
    account = engine.account()
    assert (account.lines, account.records, account.rejects) == (COUNT + 1, COUNT, 1)
    assert account.balanced
    assert account.complete
    assert account.bytes_read == file.stat().st_size
    assert account.by_source == {str(file): COUNT + 1}
    assert account.by_format == {"pair": COUNT}
    started, ended = seen
    assert isinstance(ended, _engine_events.RunEnded)
    assert (ended.lines, ended.rejects, ended.error) == (COUNT + 1, 1, "")
    assert next(engine, None) is None


@pytest.mark.parametrize(
    ("name", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
def test_archives_are_read_whatever_their_names(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "looks.log"
    path.write_bytes(pack(pairs(5000)))
    assert values(logs.Engine(path, parser=TwoLineParser())) == list(range(5000))
    cut = tmp_path / f"cut.{name}"
    cut.write_bytes(path.read_bytes()[:-20])
    with events.record(_engine_events.SourceDamaged) as seen:
        engine = logs.Engine([cut, path], parser=TwoLineParser())
        found = values(engine)
    account = engine.account()
    assert found[-5000:] == list(range(5000))  # the next file is read all the same
    assert found[:-5000] == list(range(len(found) - 5000))
    assert list(account.damaged) == [str(cut)]
    assert not account.complete
    assert account.balanced
    assert [event.name for event in seen] == [str(cut)]


def test_a_bomb_is_unpacked_in_bounded_pieces(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb") as packed:
        for _ in range(64):
            packed.write(bytes(1 << 20))
    engine = logs.Engine(path, parser=TwoLineParser())
    assert list(engine.records()) == []
    account = engine.account()
    assert (account.lines, account.cut_lines) == (1, 1)
    assert account.cut_bytes == 63 << 20


def test_a_filter_stages_and_a_redaction_in_this_order(file: Path) -> None:
    class Add:
        def apply(self, batch: Any) -> None:
            for record in batch.records:
                record["value"] += 1

    class Hide:
        def apply(self, batch: Any) -> None:
            for record in batch.records:
                record["key"] = "hidden"

        def lines(self, lines: list[str]) -> list[str]:
            return ["hidden" for _ in lines]

    engine = logs.Engine(
        file,
        parser=TwoLineParser(),
        stages=[Add()],
        where=logs.Where("value <= 3 and key startswith 'key'"),
        redact=Hide(),
    )
    batches = list(engine)
    assert [record for batch in batches for record in batch.records] == [
        {"key": "hidden", "value": value} for value in (1, 2, 3)
    ]
    assert [number for batch in batches for number in batch.numbers] == [0, 1, 2]
    assert [reject.line for batch in batches for reject in batch.rejects] == ["hidden"]
    assert engine.account().filtered == COUNT - 3


def test_lines_that_belong_together_are_one_record() -> None:
    lines = ["ERROR:root:failed", "Traceback (most recent call last):", '  File "a.py", line 1']
    lines += ["ValueError: bad", "INFO:root:on it goes"]
    engine = logs.Engine(lines, fold=logs.Folder())
    found = list(engine.records())
    assert [record["message"] for record in found] == ["failed", "on it goes"]
    account = engine.account()
    assert (account.lines, account.folded) == (2, 3)


# -- ends ----------------------------------------------------------------------------------------


def endless() -> Iterator[str]:
    number = 0
    while True:
        yield f"a={number}"
        number += 1


def test_a_deadline_and_a_cancellation_end_it() -> None:
    engine = logs.Engine(endless(), parser=TwoLineParser())
    with context.timeout(0.2), pytest.raises(DeadlineExceeded):
        engine.run(lambda batch: None)
    assert engine.account().balanced
    reading, writing = os.pipe()
    try:
        with os.fdopen(reading, "rb", buffering=0) as stream, context.with_cancel() as ctx:
            engine = logs.Engine(stream, parser=TwoLineParser())
            os.write(writing, b"a=1\n")
            assert next(engine).records == [{"key": "a", "value": 1}]
            threading.Timer(0.1, ctx.cancel).start()
            with pytest.raises(Cancelled):
                next(engine)
    finally:
        os.close(writing)


def test_stop_delivers_what_was_read_and_close_does_not() -> None:
    engine = logs.Engine(endless(), parser=TwoLineParser(), batching=logs.Batching(lines=10))
    seen = 0
    for batch in engine:
        seen += batch.lines
        if seen == 30:
            engine.stop()
    assert seen == engine.account().lines
    engine = logs.Engine(endless(), parser=TwoLineParser())
    next(engine)
    engine.close()
    engine.close()
    assert next(engine, None) is None


def test_a_service_drains_what_was_read_before_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(pairs(1000))
    got: list[Any] = []
    engine = logs.Engine(logs.Follow(path), parser=TwoLineParser())
    life = Lifecycle("shipper", lame_duck=0.0)
    life.add_worker("logs", lambda: engine.run(lambda batch: got.extend(batch.records)))
    life.add("logs-drain", drain=engine.drain, depends_on=["logs"])
    with life:
        until = time.monotonic() + 30.0
        while len(got) < 1000:
            assert time.monotonic() < until
            time.sleep(0.005)
        with path.open("ab") as file:
            file.write(b"last=1\n")
    assert got[-1] == {"key": "last", "value": 1}
    assert life.report is not None
    assert life.report.ok
    assert engine.account().undelivered == 0
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as stream:
        held = threading.Event()
        engine = logs.Engine(stream, parser=TwoLineParser())
        runner = threading.Thread(target=engine.run, args=(lambda batch: held.wait(30.0),))
        runner.start()
        os.write(writing, b"a=1\n")
        while not engine.account().lines:
            time.sleep(0.005)
        with context.timeout(0.1), pytest.raises(TimeoutError):
            engine.drain()
        held.set()
        engine.drain()
        runner.join()
    os.close(writing)


def test_a_sink_that_fails_ends_the_run_and_releases_the_source(file: Path) -> None:
    flushed: list[int] = []

    class Full:
        def write(self, batch: Any) -> None:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            flushed.append(1)

    engine = logs.Engine(file, parser=TwoLineParser())
    with pytest.raises(OSError, match="No space"):
        engine.run(Full())
    assert flushed == [1]
    with pytest.raises(InvalidArgument, match="sink"):
        logs.Engine(file, parser=TwoLineParser()).run(3)  # type: ignore[arg-type]


def test_a_parser_that_fails_or_loses_lines_is_no_silent_loss() -> None:
    with pytest.raises(ValueError, match="a parser that fails"):
        list(logs.Engine(["raise"], parser=TwoLineParser()))

    class Loses(TwoLineParser):
        def parse_lines(self, lines: Any) -> Any:
            return super().parse_lines(list(lines)[1:])

    with pytest.raises(LinesLost, match="2 lines"):
        list(logs.Engine(["a=1", "b=2"], parser=Loses()))


def test_a_slow_consumer_slows_the_source() -> None:
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        for line in endless():
            taken += 1
            yield line

    engine = logs.Engine(lines(), parser=TwoLineParser(), batching=logs.Batching(lines=10))
    for _ in range(3):
        next(engine)
    assert taken <= 40
    engine.close()
    engine = logs.Engine(
        lines(), parser=TwoLineParser, processes=2, batching=logs.Batching(lines=10)
    )
    taken = 0
    next(engine)
    time.sleep(0.3)
    assert taken <= 10 * (2 * 3 + 2)
    engine.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_the_run_to_its_parent(file: Path) -> None:
    engine = logs.Engine(file, parser=TwoLineParser, processes=2)
    first = next(engine)
    child = os.fork()
    if not child:
        try:
            next(engine)
        except ClosedError:
            engine.close()  # ends nothing of the parent's
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    rest = sum(batch.lines for batch in engine)
    assert first.lines + rest == COUNT + 1


# -- worker processes ----------------------------------------------------------------------------


def test_a_killed_worker_costs_a_retry_and_no_line(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[_workers.Pool] = []
    original = _workers.Pool.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        pools.append(self)

    monkeypatch.setattr(_workers.Pool, "__init__", init)
    with events.record(_engine_events.WorkerRestarted) as seen:
        engine = logs.Engine(
            file, parser=TwoLineParser, processes=2, batching=logs.Batching(lines=500)
        )
        found = [record["value"] for record in next(engine).records]
        (pool,) = pools
        for pid in pool.pids:
            os.kill(pid, signal.SIGKILL)
        found += [record["value"] for record in engine.records()]
    assert found == list(range(COUNT))
    account = engine.account()
    assert account.balanced
    assert account.retried == len(seen) >= 1
    assert {event.exit_status for event in seen} == {-9}
    assert not pool.pids


def test_lines_that_kill_every_worker_are_an_error_that_names_them(tmp_path: Path) -> None:
    path = tmp_path / "poison.log"
    path.write_bytes(pairs(200) + b"die\n" + pairs(200))
    engine = logs.Engine(
        path, parser=TwoLineParser, processes=2, retries=1, batching=logs.Batching(lines=100)
    )
    found: list[Any] = []
    with pytest.raises(WorkerDied, match=r"signal 9.*lines 200 to 300 of .*poison.log") as caught:
        for batch in engine:
            found += batch.records
    assert caught.value.exit_status == -9
    assert len(found) == 200  # what came before the lines was delivered
    account = engine.account()
    assert account.balanced
    assert account.undelivered >= 100


def test_an_error_of_the_parser_crosses_over(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a parser that fails"):
        list(logs.Engine(["raise"], parser=TwoLineParser, processes=1, retries=0))
    engine = logs.Engine(["raise"], parser=TwoLineParser, processes=2)
    with pytest.raises(ValueError, match="a parser that fails"):
        list(engine)
    with pytest.raises(InvalidArgument, match="can be pickled"):
        next(logs.Engine(["a"], parser=lambda: TwoLineParser(), processes=2))


def test_a_daemonic_process_may_have_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    current = __import__("multiprocessing").current_process()
    monkeypatch.setitem(current._config, "daemon", True)
    with pytest.raises(InvalidArgument, match=r"processes=2.*no children"):
        next(logs.Engine(["a=1"], parser=TwoLineParser, processes=2))


def test_closing_ends_the_processes(file: Path) -> None:
    engine = logs.Engine(endless(), parser=TwoLineParser, processes=2)
    next(engine)
    before = {child.pid for child in __import__("multiprocessing").active_children()}
    assert before
    engine.close()
    for pid in before:
        with pytest.raises(ProcessLookupError):
            os.kill(pid or 0, 0)


# -- asynchronous --------------------------------------------------------------------------------


def test_async_iteration_takes_async_iterables_and_files(file: Path) -> None:
    async def lines() -> AsyncIterator[str]:
        for number in range(20):
            await asyncio.sleep(0.001)
            yield f"a={number}"

    async def main() -> None:
        engine = logs.Engine(lines(), parser=TwoLineParser())
        found = [record["value"] async for record in engine.records_async()]
        assert found == list(range(20))
        assert engine.account().lines == 20

        got: list[Any] = []

        async def sink(batch: logs.Parsed) -> None:
            await asyncio.sleep(0)
            got.extend(batch.records)

        account = await logs.Engine(file, parser=TwoLineParser()).run_async(sink)
        assert len(got) == account.records == COUNT
        account = await logs.Engine(file, parser=TwoLineParser()).run_async(got.append)
        assert account.balanced

    asyncio.run(main())
    with pytest.raises(InvalidArgument, match="async for"):
        next(logs.Engine(lines(), parser=TwoLineParser()))


def test_cancelling_a_task_loses_no_batch() -> None:
    async def main() -> None:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", buffering=0) as stream:
            async with logs.Engine(stream, parser=TwoLineParser()) as engine:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(engine), 0.05)
                os.write(writing, b"a=1\n")
                batch = await asyncio.wait_for(anext(engine), 10.0)
                assert batch.records == [{"key": "a", "value": 1}]
                task = asyncio.ensure_future(engine.run_async(lambda batch: None))
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            os.close(writing)

    asyncio.run(asyncio.wait_for(main(), 30.0))


def test_a_task_cancelled_anywhere_leaves_nothing_behind() -> None:
    before = threading.active_count()

    async def once(at: int, *, slow: bool) -> None:
        engine = logs.Engine(
            endless(), parser=TwoLineParser(), batching=logs.Batching(lines=10), name=f"run {at}"
        )
        seen: list[int] = []

        async def sink(batch: logs.Parsed) -> None:
            seen.extend(record["value"] for record in batch.records)
            if len(seen) >= at * 10:
                task.cancel()
            if slow:
                await asyncio.sleep(0)

        task = asyncio.ensure_future(engine.run_async(sink))
        if not at:
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        account = engine.account()
        assert account.balanced
        assert seen == list(range(len(seen)))  # in order, and nothing between is missing
        assert 0 <= account.records - len(seen) <= 10  # the step that was under way at most
        assert next(engine, None) is None

    async def main() -> None:
        for at in range(8):
            await asyncio.wait_for(once(at, slow=bool(at % 2)), 20.0)

    asyncio.run(main())
    until = time.monotonic() + 10.0
    while threading.active_count() > before:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_file_that_grows_for_ever_is_read_to_the_end_it_had(tmp_path: Path) -> None:
    path = tmp_path / "grows.log"
    path.write_bytes(pairs(100))
    seen = 0
    with path.open("ab") as growing:
        engine = logs.Engine(path, parser=TwoLineParser(), batching=logs.Batching(bytes=50))
        for batch in engine:
            seen += batch.lines
            growing.write(pairs(20))
            growing.flush()
    assert seen == 100
    assert logs.Engine("/proc/self/status", parser=TwoLineParser()).run(print).lines > 10


# -- sinks ---------------------------------------------------------------------------------------


def test_json_lines_say_everything_that_json_can(tmp_path: Path) -> None:
    out, rejects = tmp_path / "out.jsonl", tmp_path / "rejects"
    lines = ["no format", '{"t": "2026-10-10T10:00:00Z"}', "level=info took=5"]
    with logs.JsonLines(out, format_key="format", rejects=rejects) as sink:
        account = logs.Engine(lines).run(sink)
    assert account.rejects == 1
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert found[0] == {"format": "json", "t": "2026-10-10T10:00:00Z"}
    assert found[1] == {"format": "logfmt", "level": "info", "took": 5}
    assert rejects.read_bytes() == b"no format\n"
    reading, writing = os.pipe()
    logs.Engine(["a=1"], parser=TwoLineParser()).run(logs.JsonLines(writing))
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        assert stream.read() == b'{"key":"a","value":1}\n'
    odd = {"half": "\ud800", "big": 10**30, "at": UTC, "text": "ok"}
    parsed = logs.Parsed("s", [odd, {"a": 1}], [WORD, WORD], [0, 1], [], 0, 2)
    first, second = logs.JsonLines(1).encode(parsed).splitlines()
    assert json.loads(first) == {"half": "\ud800", "big": 10**30, "at": "UTC", "text": "ok"}
    assert second == b'{"a":1}'
    with pytest.raises(InvalidArgument, match="target"):
        logs.JsonLines(3.5)  # type: ignore[arg-type]


def test_workers_choose_and_encode_and_the_account_is_the_same(tmp_path: Path) -> None:
    lines = [f"level=info took={n}" for n in range(3000)] + ["no format"] * 3
    schemas = logs.infer(lines)
    found = []
    for processes in (1, 2):
        out, rejects = tmp_path / f"out{processes}", tmp_path / f"rejects{processes}"
        with logs.JsonLines(out, rejects=rejects) as sink:
            engine = logs.Engine(
                lines,
                stages=[schemas],
                where=logs.Where("took < 700"),
                processes=processes,
                batching=logs.Batching(lines=200),
            )
            account = engine.run(sink)
        assert (account.records, account.rejects, account.filtered) == (3000, 3, 2300)
        found.append((out.read_bytes(), rejects.read_bytes(), account))
    assert found[0] == found[1]
    assert found[0][0].count(b"\n") == 700
    # A stage that may keep something in mind stays here; records are what they are without workers.
    tracker = logs.SchemaTracker()
    engine = logs.Engine(
        lines, stages=[tracker], where=lambda record: record["took"] < 5, processes=2
    )
    assert [record["took"] for record in engine.records()] == [0, 1, 2, 3, 4]
    assert tracker.counts()["logfmt"].records == 3000


def test_objects_of_a_class_of_ones_own() -> None:
    @attrs.frozen
    class Pair:
        key: str
        value: int

    got: list[Any] = []
    sink = logs.Objects(got.append, classes={"pair": Pair})
    logs.Engine(["a=1", "word"], parser=TwoLineParser()).run(sink)
    assert got[0] == Pair("a", 1)
    assert got[1].text == "word"


def test_parquet_files_hold_every_value(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    lines = ['{"t": 1, "x": "a"}', '{"t": 2, "new": true}', "level=info at=3"] * 50
    lines += ['{"t": "text", "x": "b", "more": [1]}'] * 10
    with logs.Arrow(tmp_path / "out") as sink:
        account = logs.Engine(lines, batching=logs.Batching(lines=100)).run(sink)
    assert account.records == 160
    table = parquet.read_table(tmp_path / "out" / "json.parquet")
    assert table.num_rows == 110
    rows = table.to_pylist()
    assert rows[0] == {"t": 1, "x": "a", "new": None, "_rest": None}
    assert rows[-1]["t"] is None
    assert json.loads(rows[-1]["_rest"]) == {"t": "text", "more": [1]}
    assert sink.moved == 20
    assert parquet.read_table(tmp_path / "out" / "logfmt.parquet").num_rows == 50
    with pytest.raises(ClosedError):
        sink.write(None)  # type: ignore[arg-type]
    tables: list[Any] = []
    logs.Engine(["level=info"]).run(logs.Arrow(lambda name, table: tables.append((name, table))))
    assert tables[0][0] == "logfmt"
    assert tables[0][1].to_pylist() == [{"level": "info", "_rest": None}]


def test_records_go_to_opentelemetry() -> None:
    sdk = pytest.importorskip("opentelemetry.sdk._logs")
    export = __import__("opentelemetry.sdk._logs.export", fromlist=["x"])
    kept = getattr(export, "InMemoryLogRecordExporter", None) or export.InMemoryLogExporter
    memory = kept()
    simple = getattr(export, "SimpleLogRecordProcessor")  # noqa: B009
    provider = sdk.LoggerProvider()
    provider.add_log_record_processor(simple(memory))
    lines = ['{"time": "2026-10-10T10:00:00.5Z", "level": "warn", "msg": "slow", "big": 1e3}']
    lines += ["level=info msg=up list=1"]
    stage = logs.infer(lines)
    account = logs.Engine(lines, stages=[stage]).run(logs.OtelLogs(provider))
    assert account.records == 2
    first, second = (found.log_record for found in memory.get_finished_logs())
    assert first.body == "slow"
    assert first.severity_number.value == 13
    assert first.timestamp == 1_791_626_400_500_000_000
    assert dict(first.attributes)["log.source"] == "lines"
    assert "msg" not in first.attributes
    assert second.severity_number.value == 9
    with pytest.raises(InvalidArgument, match="provider"):
        logs.OtelLogs(object())


def test_records_go_into_the_exporters_of_observe() -> None:
    observe = pytest.importorskip("hastack.observe")
    pytest.importorskip("opentelemetry.sdk._logs")
    settings = config.load(
        env=None,
        override={
            "observe": {
                "service": "shipper",
                "backends": {"nobody": {"endpoint": "http://127.0.0.1:9", "signals": ["logs"]}},
            }
        },
    )
    installed = observe.install(settings, set_global=False)
    try:
        logs.Engine(["level=info msg=up", "level=error msg=down"]).run(
            logs.OtelLogs(installed.logger_provider)
        )
        assert installed.pipeline.accounts()["nobody-logs"].emitted >= 2
    finally:
        report = installed.shutdown(timeout=0.2)
    assert report.account.balanced


def test_pipes_by_name_wait_for_their_writers(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    engine = logs.Engine(path, parser=TwoLineParser())
    with context.timeout(0.2), pytest.raises(DeadlineExceeded):
        next(engine)  # nobody writes, and that holds up nothing

    def write() -> None:
        with path.open("wb") as pipe:
            for number in range(100):
                pipe.write(b"a=%d\n" % number)
                pipe.flush()

    engine = logs.Engine(path, parser=TwoLineParser())
    writer = threading.Thread(target=write)
    writer.start()
    with context.timeout(30.0):
        assert values(engine) == list(range(100))
    writer.join()
    text = tmp_path / "windows.log"
    text.write_text("a=1\nb=2", encoding="utf-16")
    assert values(logs.Engine(text, parser=TwoLineParser())) == [1, 2]
    with pytest.raises(IsADirectoryError):
        next(logs.Engine(tmp_path, parser=TwoLineParser()))


def test_a_reader_that_is_slow_and_does_not_block_gets_all(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    got: list[bytes] = []

    def read() -> None:
        time.sleep(0.2)
        while piece := os.read(reading, 65536):
            got.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    lines = [f"a={number}" for number in range(20_000)]
    logs.Engine(lines, parser=TwoLineParser()).run(logs.JsonLines(writing))
    os.close(writing)
    reader.join()
    os.close(reading)
    assert b"".join(got).count(b"\n") == 20_000


def test_text_streams_and_strange_sources() -> None:
    assert values(logs.Engine(io.StringIO("a=1\nb=2\n"), parser=TwoLineParser())) == [1, 2]
    assert values(logs.Engine(io.BytesIO(b"a=1\nb=2"), parser=TwoLineParser())) == [1, 2]
    packed = io.BytesIO(gzip.compress(b"a=1\n")[:-3])
    engine = logs.Engine(packed, parser=TwoLineParser())
    assert values(engine) == [1]
    assert engine.account().damaged
    for wrong in (3, b"bytes"):
        with pytest.raises(InvalidArgument, match="source"):
            logs.Engine(wrong)
    with pytest.raises(InvalidArgument, match="lines"):
        list(logs.Engine([3]))  # type: ignore[list-item]
