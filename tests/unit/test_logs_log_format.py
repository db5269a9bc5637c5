"""Formats that users describe in the words of nginx and Apache, and what is told of a grammar."""

from datetime import timedelta

import pytest
from log_lines import NOW, T

from hastack.errors import InvalidArgument
from hastack.observe import logs
from hastack.observe.logs import combinators as c
from hastack.observe.logs import formats
from hastack.observe.logs.formats._shape import field_kinds, first_characters, supertype


def test_nginx():
    made = formats.nginx(
        "edge",
        '$remote_addr - ${remote_user}x [$time_local] $msec "$request" $status $body_bytes_sent '
        "$request_time|$upstream_response_time]$host",
    )
    line = (
        '10.0.0.7 - adax [10/Oct/2026:13:55:36 +0000] 1791640536.250 "GET /\\xc3\\xa9 HTTP/1.1" 200 '
        "- 0.125|0.001, 0.002 : -]shop.example"
    )
    assert made.try_parse(line) == {
        "client": "10.0.0.7",
        "user": "ada",
        "time": T,
        "time_2": T + timedelta(milliseconds=250),
        "request": "GET /\u00e9 HTTP/1.1",
        "status": 200,
        "size": None,
        "request_time": 0.125,
        "upstream_response_time": "0.001, 0.002 : -",
        "host": "shop.example",
    }
    assert made.fields["request_time"] == "duration"
    assert (
        str(made.explain(line.replace(" 200 ", " ok "))) == "column 86: expected a value of status"
    )
    made = formats.nginx("x", "$host--$uri")
    assert made.try_parse("a-b--/c--d") == {"host": "a-b", "uri": "/c--d"}
    assert formats.nginx("x", "$status$host").try_parse("200x") == {"status": 200, "host": "x"}


def test_a_described_format_is_dispatched_like_any_other():
    mine = formats.nginx("edge", "edge $status $uri")
    parser = logs.Parser([mine, *formats.known()])
    batch = parser.parse_lines(["edge 200 /x", "edge=1", "edge 404 /y"])
    assert [each.name for each in batch.formats] == ["edge", "logfmt", "edge"]


def test_apache():
    made = formats.apache(
        "site",
        '%v:%p %h %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\" \\"%{User-Agent}i\\" %D %{ms}T %I '
        "%{X-Trace}o %X %{UNIQUE_ID}e %!200,304{Cookie}i%%",
    )
    line = (
        'shop:443 10.0.0.7 - ada [10/Oct/2026:13:55:36 +0000] "GET / HTTP/1.1" 200 17 "-" "curl" '
        "125000 250 7 t1 + u9 -%"
    )
    assert made.try_parse(line) == {
        "server": "shop",
        "port": 443,
        "client": "10.0.0.7",
        "ident": None,
        "user": "ada",
        "time": T,
        "request": "GET / HTTP/1.1",
        "status": 200,
        "sent": 17,
        "referer": None,
        "agent": "curl",
        "took": 0.125,
        "took_2": 0.25,
        "received": 7,
        "x_trace": "t1",
        "connection": "+",
        "unique_id": "u9",
        "cookie": None,
    }


@pytest.mark.parametrize(
    ("directive", "text", "value"),
    [
        ("%Y-%m-%dT%H:%M:%S%z", "2026-10-10T15:55:36+0200", T),
        ("begin:%F %T", "2026-10-10 13:55:36", T),
        ("%d/%b/%Y (%H.%M.%S)", "10/Oct/2026 (13.55.36)", T),
        ("sec", "1791640536", T),
        ("end:msec", "1791640536000", T),
        ("usec", "1791640536000000", T),
        ("msec_frac", "250", 250),
    ],
)
def test_times_of_apache(directive, text, value):
    made = formats.apache("x", f"[%{{{directive}}}t] %s")
    assert made.try_parse(f"[{text}] 200") == {"time": value, "status": 200}
    assert made.try_parse("[x] 200") is None


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: formats.nginx("x", "$host$uri"), "something between host"),
        (lambda: formats.nginx("x", ""), "log_format"),
        (lambda: formats.nginx("x", "nothing"), "field"),
        (lambda: formats.apache("x", "%y"), "without %y"),
        (lambda: formats.apache("x", "%{%Q}t"), "a time without %Q"),
        (lambda: formats.apache("x", "%h%u"), "something between client"),
    ],
)
def test_what_they_refuse(make, reason):
    with pytest.raises(InvalidArgument, match=reason):
        make()


def test_types_and_first_characters_of_a_grammar():
    grammar = c.seq(
        c.field("a", c.alt(c.integer, c.number)),
        c.field("b", c.opt(c.alt(c.ip, "-"))),
        c.field("c", c.many(c.seq(c.token(), " "))),
        c.field("d", c.json_value),
        c.field("e", c.integer.map(str)),
        c.field("f", c.alt(c.integer, c.integer.map(str))),
        c.alt(c.field("g", c.integer), c.field("g", c.number)),
        c.field("h", c.seq(c.field("x", c.integer))),
    )
    assert field_kinds(grammar.node) == {
        "a": "float",
        "b": "str",
        "c": "json",
        "d": "json",
        "g": "float",
        "h": "json",
    }
    assert first_characters("a?b|[^\x00-\x7f]") == {"a", "b", ""}
    assert first_characters("a*") is None
    assert [supertype(*pair) for pair in (("null", "int"), ("ip", "null"))] == ["int", "ip"]
    foreign = formats.Format("x", c.seq(c.pairs, c.field("n", c.integer)).compile())
    assert (foreign.starts, foreign.pattern) == (None, None)
    assert formats.Format("x", c.seq(c.field("n", c.integer)), fields={}).fields == {}


def test_the_faces_name_what_they_have():
    assert {"apache", "nginx", "get"} <= set(dir(formats))
    assert {"Parser", "fold"} <= set(dir(logs))
    with pytest.raises(AttributeError):
        formats.nothing  # noqa: B018


def test_odd_lines_of_known_shapes():
    parser = logs.Parser(now=lambda: NOW)

    def name(line):
        batch = parser.parse_lines([line])
        return batch.formats[0].name if batch.formats else None

    assert name('{"log":"x","stream":"stdout","time":"2026-10-10T13:55:36Z","more":1}') == "json"
    assert name('{"log":"x","stream":"stdout","time":7}') == "json"
    assert name('{"log":7}') == "json"
    assert name('{"log":') is None
    assert name('{"kind":"Event","apiVersion":"v1"}') == "json"
    assert name('{"kind":"Event","apiVersion":"audit.k8s.io/v1"}') == "kubernetes.audit"
    assert name('{"a": NaN') is None
    assert name('{"a": 1e999}') == "json"
    assert name('{"a": ' * 100_000) is None
    assert name("[1]") is None
    assert name(b'{"a": 7') is None
    assert formats.get("json").try_parse('{"a": "\ud800"}') is None
    assert parser.parse(b'{"a": Infinity}') == {"a": float("inf")}
    assert name("java.io.IOException at noon") is None
    assert name("com.shop.Order") is None
    assert name("java.io.IOException: x") == "java.stacktrace"
    assert name("Commandline: x\n?") == "apt.history"
    assert parser.parse("Commandline: x\n?")["continuation"] == "?"
    assert formats.get("apt.history").try_parse("Install: x ()")["install"][0]["version"] == ""
    assert formats.get("apt.history").try_parse("Install: x (automatic)")["install"] == [
        {"package": "x", "arch": None, "version": None, "previous": None, "automatic": True}
    ]
    assert formats.get("python.traceback").try_parse("Traceback: no") is None
    assert formats.get("go.panic").try_parse("panicked") is None
    journal = formats.get("journal.export").try_parse
    head = "__CURSOR=1\n__REALTIME_TIMESTAMP=1"
    assert journal(head)["__CURSOR"] == "1"
    assert journal("__CURSOR=1") is None
    assert journal(f"{head}\nlower=1") is None
    assert journal(f"{head}\nB\n\xff") is None
    assert journal(f"{head}\n\nX=1")["__CURSOR"] == "1"
    assert journal(f"{head}\n_PID=1\n_PID=2\n_PID=3")["pid"] == [1, 2, 3]
    line = 'h - - [10/Oct/2026:13:55:36 +0000] "GET /\\xff\\n\\q HTTP/1.1" 200 1'
    assert parser.parse(line)["path"] == "/\\xff\nq"
    utc = formats.get("syslog.file").try_parse("Jan  1 00:00:00 h a: x")
    assert utc["time"].tzinfo is not None
