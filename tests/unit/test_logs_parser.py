"""The parser: dispatch, dirt, limits, templates, explanations, threads."""

import itertools
import os
import signal
import threading
from datetime import timedelta, timezone

import pytest
from log_lines import NOW, T

from hastack.errors import InvalidArgument, MissingDependency
from hastack.observe import logs
from hastack.observe.logs import combinators as c
from hastack.observe.logs import formats

ACCESS = '10.0.0.7 - ada [10/Oct/2026:13:55:36 +0000] "GET / HTTP/1.1" 200 2326'
SYSLOG = "<13>1 2026-10-10T13:55:36Z h a 1 - - plain"


def accounted(batch, lines):
    assert len(batch.records) == len(batch.formats) == len(batch.numbers)
    places = sorted([*batch.numbers, *(reject.number for reject in batch.rejects)])
    assert places == list(range(len(lines)))
    for reject in batch.rejects:
        assert reject.line == lines[reject.number]
    counts = batch.counts
    assert counts.lines == len(lines) == counts.records + sum(counts.rejected.values())
    assert counts.records == sum(counts.formats.values())


@pytest.mark.parametrize("ends", ["", "\n", "\r\n"])
@pytest.mark.parametrize("raw", [True, False])
def test_lines_with_and_without_ends_text_and_bytes(ends, raw):
    lines = [each + ends for each in [ACCESS, '{"a": 1}', SYSLOG, "a=1", "what?", ""] * 100]
    lines = [each.encode() for each in lines] if raw else lines
    batch = logs.Parser().parse_lines(lines)
    accounted(batch, lines)
    assert batch.counts.crlf == (600 if ends == "\r\n" else 0)
    assert batch.counts.rejected == {"unknown format": 100, "empty": 100}
    assert [each.name for each in batch.formats[:4]] == [
        "nginx.common",
        "json",
        "syslog.rfc5424",
        "logfmt",
    ]
    assert batch.counts.truncated == 0


def test_an_iterator_of_both_kinds_is_read_once():
    lines = [ACCESS, SYSLOG.encode(), ACCESS]
    batch = logs.Parser().parse_lines(iter(lines))
    accounted(batch, lines)
    assert not batch.rejects
    assert logs.Parser().parse_lines([]).counts.lines == 0


def test_dirt_is_taken_out_and_counted():
    lines = [
        b"\xef\xbb\xbfa=1",
        b"\x1b[32mlevel=info\x1b[0m x=2\x1b]0;title\x07",
        b"a=1\x00 b=2",
        b"msg=caf\xe9",
        "a=1".encode("utf-16"),
        "\ufeffa=1",
        b'{"a": "\xff"}',
        b"a=" + b"x" * 70_000,
    ]
    parser = logs.Parser()
    batch = parser.parse_lines(lines)
    accounted(batch, lines)
    assert batch.records[:7] == [
        {"a": 1},
        {"level": "info", "x": 2},
        {"a": 1, "b": 2},
        {"msg": "caf\ufffd"},
        {"a": 1},
        {"a": 1},
        {"a": "\ufffd"},
    ]
    counts = parser.counts
    assert (counts.ansi, counts.nul, counts.invalid, counts.bom, counts.long) == (1, 1, 2, 3, 1)


@pytest.mark.parametrize(
    ("fallback", "text"),
    [("latin-1", "caf\u00e9"), ("backslashreplace", r"caf\xe9"), ("replace", "caf\ufffd")],
)
def test_the_fallback_says_what_becomes_of_lines_that_are_not_utf8(fallback, text):
    assert logs.Parser(fallback=fallback).parse(b"msg=caf\xe9") == {"msg": text}


@pytest.mark.parametrize("fallback", ["utf-16", "shift_jis", "no such", "rot13", ""])
def test_other_fallbacks_are_refused(fallback):
    with pytest.raises(InvalidArgument, match="fallback"):
        logs.Parser(fallback=fallback)


def test_lines_of_a_megabyte_are_read_and_longer_ones_are_rejected():
    exact = b"a=" + b"x" * (1024 * 1024 - 2)
    lines = [exact, exact + b"x", b"a=1"]
    batch = logs.Parser().parse_lines(lines)
    accounted(batch, lines)
    assert [reject.reason for reject in batch.rejects] == ["too long"]
    assert batch.counts.long == 2
    assert logs.Parser(longest=3).parse_lines(["a=1", "a=12"]).counts.rejected == {"too long": 1}
    for bad in (0, "none", -1):
        with pytest.raises(InvalidArgument, match="longest"):
            logs.Parser(longest=bad)


def test_one_line_at_a_time_is_counted_too():
    parser = logs.Parser()
    assert parser.parse(ACCESS.encode() + b"\r\n")["status"] == 200
    assert parser.parse("what?") is None
    counts = parser.counts
    assert (counts.lines, counts.records, counts.crlf) == (2, 1, 1)
    assert (counts.formats, counts.rejected) == ({"nginx.common": 1}, {"unknown format": 1})


def test_a_last_line_that_is_cut_is_said_to_be():
    batch = logs.Parser().parse_lines(['{"a": 1}\n', '{"a": '])
    assert (batch.counts.truncated, batch.rejects[0].reason) == (1, "truncated")
    batch = logs.Parser().parse_lines([b"a=1\n", b"a=1"])
    assert (batch.counts.truncated, batch.rejects) == (1, [])


def test_entries_of_several_lines():
    entry = "ERROR:root:failed\n  more\r\n  and more\r\n"
    batch = logs.Parser().parse_lines([entry, '{\n "a": 1\n}', "?\n x"])
    assert batch.records[0] == {
        "level": "ERROR",
        "logger": "root",
        "message": "failed",
        "continuation": "  more\n  and more",
    }
    assert batch.records[1] == {"a": 1}
    assert [reject.number for reject in batch.rejects] == [2]
    assert logs.parse("a=1\n b") == {"a": 1, "continuation": " b"}


def test_a_users_format_comes_first_and_can_be_taken_back():
    parser = c.seq("level=", c.field("grade", c.token()), " took=", c.field("took", c.duration))
    mine = formats.register(formats.Format("shop", parser))
    try:
        assert logs.parse("level=info took=7ms") == {"grade": "info", "took": 0.007}
        assert logs.parse("level=info x=7ms") == {"level": "info", "x": "7ms"}
        assert formats.get("shop") is mine
        assert formats.known()[0] is mine
        assert formats.names()[0] == "shop"
    finally:
        formats.unregister("shop")
    assert logs.parse("level=info took=7ms") == {"level": "info", "took": "7ms"}
    with pytest.raises(InvalidArgument, match="name"):
        formats.unregister("shop")
    with pytest.raises(InvalidArgument, match="new"):
        formats.register("shop")


def test_formats_may_be_chosen():
    own = formats.Format("own", lambda line: {"n": int(line)}, fields={"n": "int"})
    parser = logs.Parser([own, "json"])
    batch = parser.parse_lines(["1", "x", "{}", "a=1"])
    assert [each.name for each in batch.formats] == ["own", "json"]
    assert own.starts is None
    assert str(own.explain("x")) == "column 1: expected a line of own"
    for bad in ("json", [7], [""], own):
        with pytest.raises(InvalidArgument):
            logs.Parser(bad)


def test_formats_of_one_order_are_asked_in_it_however_the_lines_come():
    number = formats.Format("number", c.seq(c.field("n", c.integer)))
    word = formats.Format("word", c.seq(c.field("w", c.token())))
    parser = logs.Parser([number, word])
    lines = ["123", "12x", "123", "1", "x", "\u00e9", "\u00e8x"]
    for _ in range(2):
        names = [each.name for each in parser.parse_lines(lines).formats]
        assert names == ["number", "word", "number", "number", "word", "word", "word"]
    opaque = formats.Format("opaque", lambda line: {"x": line} if line.endswith("x") else None)
    parser = logs.Parser([opaque, word])
    for line, name in [("abc", "word"), ("abx", "opaque"), ("abc", "word"), ("abx", "opaque")]:
        assert parser.parse_lines([line]).formats[0].name == name


def absent(line):
    raise MissingDependency("msgspec", "logs")


def test_a_missing_package_is_no_fault_of_the_line():
    """Lines that nobody reads for want of a package must not look like lines of no known format."""
    needy = formats.Format("needy", absent)
    parser = logs.Parser([needy])
    for work in (
        lambda: needy.try_parse("x"),
        lambda: needy.explain("x"),
        lambda: parser.parse("x"),
        lambda: parser.parse_lines(["x"] * 10),
        lambda: parser.parse_lines([b"\xff", b"x"]),
    ):
        with pytest.raises(MissingDependency, match=r"pip install 'hastack\[logs\]'"):
            work()


def test_a_format_that_fails_loses_no_line():
    def broken(line):
        if "boom" in line:
            raise KeyError(line)
        return {"x": 1} if line.startswith("!") else None

    fine = formats.Format("fine", lambda line: None)
    fails = formats.Format("broken", c.seq(c.field("x", c.rest.map(broken))))
    many = ["!boom", "!!!1", "!!!boom", "!!!2", "{}"], ["!!!1", "!boom\n x", "!boom"]
    for chosen, lines in itertools.product(([fine, fails, "json"], [fails, "json"]), many):
        parser = logs.Parser(chosen)
        batch = parser.parse_lines(lines)
        accounted(batch, lines)
        assert [reject.reason for reject in batch.rejects] == ["broken raised an exception"] * 2
    safe = formats.Format("safe", broken)
    assert safe.try_parse("boom") is None
    assert "KeyError" in str(safe.explain("boom"))


def test_what_is_remembered_of_lines_is_bound(monkeypatch):
    monkeypatch.setattr("hastack.observe.logs._dispatch._MOST_HINTS", 3)
    parser = logs.Parser()
    lines = [f"{letter}{letter}{letter}=1" for letter in "abcdef"] * 2
    assert parser.parse_lines(lines).counts.formats == {"logfmt": 12}
    assert len(parser._reader.dispatch.hints) <= 3


def test_many_lines_of_no_format_change_nothing():
    parser = logs.Parser()
    lines = ["what is this, and 7 more of it?", "\u00e9 no", "{no", "9 no"] * 300
    lines += ["well=known", '{"a": 1}', ACCESS, "what=known"] * 300
    for _ in range(2):
        batch = parser.parse_lines(lines)
        accounted(batch, lines)
        assert batch.counts.records == 1200
    opaque = formats.Format("opaque", lambda line: None)
    batch = logs.Parser([opaque]).parse_lines(lines)
    assert batch.counts.rejected == {"unknown format": 2400}


def test_zone_and_now_reach_the_formats():
    parser = logs.Parser(zone=timezone(timedelta(hours=2)), now=lambda: NOW)
    assert parser.parse("Oct 10 15:55:36 h a: x")["time"] == T
    assert parser.parse("2026/10/10 15:55:36 x")["time"] == T
    berlin = formats.get("nginx.error", zone=timezone(timedelta(hours=2)))
    assert berlin is formats.get("nginx.error", zone=timezone(timedelta(hours=2)))


class Miner:
    def add(self, message):
        first, _, rest = message.partition(" ")
        return type("Mined", (), {"template": f"{first} <*>", "values": [rest]})()


def test_lines_that_no_format_knows_may_get_a_template():
    lines = ["hello world", "", "a=1"]
    batch = logs.Parser(templates=Miner()).parse_lines(lines)
    accounted(batch, lines)
    assert batch.records[0] == {"template": "hello <*>", "message": "hello world", "arg1": "world"}
    assert batch.formats[0].name == "template"
    assert batch.formats[0].try_parse("x") is None

    class Named(Miner):
        def add(self, message):
            mined = super().add(message)
            mined.fields = {"took": 7}
            return mined

    assert logs.Parser(templates=Named()).parse("took 7")["took"] == 7


def test_explanations():
    parser = logs.Parser(["nginx.common", "json"])
    found = parser.explain(ACCESS.encode() + b"\r\n")
    assert (found.format.name, found.record["status"], found.line) == ("nginx.common", 200, ACCESS)
    assert str(found).startswith("nginx.common: {")
    missed = parser.explain(ACCESS.replace("200", "ok"))
    assert missed.format is None
    assert [each.name for each, _ in missed.misses] == ["nginx.common", "json"]
    assert str(missed).splitlines()[2] == "nginx.common: column 62: expected a status"
    assert str(missed).splitlines()[1].index("^") == 61
    for line, column in (('{"a": }', 7), ('{"a": 1} x', 11), ('{"a": 1', 8), ("[1]", 1)):
        miss = formats.get("json").explain(line)
        assert (miss.column, "JSON" in str(miss) or line == "[1]") == (column, True)
    assert formats.get("json").explain('{"a":' * 100_000).at == 0
    for line, text in (("a", "column 2: expected '='"), ("a=1 ?", "column 5: expected key=value")):
        assert str(formats.get("logfmt").explain(line)) == text
    assert "a value" in str(formats.get("logfmt").explain('a="x'))
    slog = formats.get("go.slog")
    assert "level=INFO" in str(slog.explain("time=1 level=INFO"))
    assert "key=value" in str(slog.explain("time=2026-10-10T13:55:36Z level=INFO ?"))


def test_a_format_says_what_it_is():
    made = formats.Format("x", c.seq(c.field("n", c.integer)).compile())
    assert repr(made) == "<Format x>"
    assert made.fields == {"n": "int"}
    assert made.starts == frozenset("+-0123456789")
    assert formats.Format("x", c.seq(c.field("n", c.integer)), starts="1").starts == {"1"}
    assert formats.get("syslog.file").try_parse("nothing") is None
    assert formats.get("redis", now=lambda: NOW).explain("x").at == 0
    for bad in (c.seq(c.integer), 7):
        with pytest.raises(InvalidArgument, match="grammar"):
            formats.Format("x", bad)
    with pytest.raises(c.Unbounded):
        formats.Format("x", c.field("n", c.many(c.opt("a"))))
    with pytest.raises(InvalidArgument, match=r"one of nginx\.combined"):
        formats.get("none")


def test_a_forked_child_reads_on_though_a_thread_was_counting():
    parser = logs.Parser(["logfmt"])
    with parser._lock:
        child = os.fork()
        if not child:
            signal.alarm(20)  # ends what hangs
            os._exit(parser.parse("a=1") != {"a": 1})
    assert os.waitpid(child, 0)[1] == 0


def test_threads_share_a_parser():
    parser = logs.Parser()
    lines = [ACCESS, SYSLOG, "a=1", "?"] * 50

    def work():
        for _ in range(20):
            accounted(parser.parse_lines(lines), lines)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert parser.counts.lines == 4 * 20 * 200
    assert parser.counts.formats == {"nginx.common": 4000, "syslog.rfc5424": 4000, "logfmt": 4000}
