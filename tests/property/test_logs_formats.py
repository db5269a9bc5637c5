"""Records written by a small writer of its own for each format are read back; no bytes are lost."""

import json
import math
import string
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_lines import SAMPLES

from hastack.observe import logs
from hastack.observe.logs import combinators as c
from hastack.observe.logs import formats
from hastack.observe.logs._times import iso

ZONES = [UTC, timezone(timedelta(hours=2)), timezone(-timedelta(hours=3, minutes=30))]
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]

EARLIEST, LATEST = datetime(1980, 1, 1), datetime(2037, 1, 1)  # noqa: DTZ001  # hypothesis adds it
moments = st.datetimes(EARLIEST, LATEST, timezones=st.sampled_from(ZONES))
whole = moments.map(lambda t: t.replace(microsecond=0))
millis = moments.map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000))
words = st.text(string.ascii_letters + string.digits + "_./+", min_size=1, max_size=12)
names = st.text(string.ascii_letters, min_size=1, max_size=8)
message = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r\0\x1b\ufeff"), min_size=1, max_size=40
)
plain_message = message.filter(lambda text: text == text.strip() and text)
number = st.integers(0, 10**9)
word_or_none = st.none() | words.filter(lambda word: word != "-")
ips = st.ip_addresses().map(str)


def nil(value):
    return "-" if value is None else value


def clf(t):
    return f"{t.day:02}/{MONTHS[t.month - 1]}/{t.year}:{t:%H:%M:%S %z}"


def web_quoted(text):
    """As nginx escapes: quotes, backslashes and control characters by their bytes."""
    return "".join(
        "".join(f"\\x{octet:02X}" for octet in char.encode())
        if char in '"\\' or not char.isprintable()
        else char
        for char in text
    )


def written(draw_from, write):
    return st.fixed_dictionaries(draw_from).map(lambda record: (write(record), record))


def access(r):
    line = f"{r['client']} {nil(r['ident'])} {nil(r['user'])} [{clf(r['time'])}] "
    request = f"{r['method']} {r['path']} {r['protocol']}"
    return f'{line}"{request}" {r["status"]} {nil(r["size"])}'


ACCESS = {
    "client": ips,
    "ident": st.none(),
    "user": word_or_none,
    "time": whole,
    "method": st.sampled_from(["GET", "PUT", "PROPFIND"]),
    "path": words.map(lambda word: f"/{word}"),
    "protocol": st.sampled_from(["HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0"]),
    "status": st.integers(100, 599),
    "size": st.none() | number,
}
text_or_none = st.none() | plain_message.filter(lambda text: text != "-")


def rfc5424(r):
    data = "".join(
        f"[{element}" + "".join(f' {k}="{escaped_sd(v)}"' for k, v in inner.items()) + "]"
        for element, inner in (r["data"] or {}).items()
    )
    facility = [
        "kern",
        "user",
        "mail",
        "daemon",
        "auth",
        "syslog",
        "lpr",
        "news",
        "uucp",
        "cron",
        "authpriv",
        "ftp",
    ]
    priority = facility.index(r["facility"]) * 8 + r["severity"]
    time = "-" if r["time"] is None else r["time"].isoformat()
    process = r["pid"] if r["pid"] is not None else nil(r["procid"])
    head = f"<{priority}>1 {time} {nil(r['host'])} {nil(r['app'])} {process} {nil(r['msgid'])} "
    return head + (data or "-") + ("" if r["message"] is None else f" {r['message']}")


def escaped_sd(text):
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


WRITERS = {
    "nginx.common": written(ACCESS, access),
    "nginx.combined": written(
        {**ACCESS, "referer": text_or_none, "agent": text_or_none},
        lambda r: f'{access(r)} "{web_quoted(nil(r["referer"]))}" "{web_quoted(nil(r["agent"]))}"',
    ),
    "nginx.error": written(
        {
            "time": whole.map(lambda t: t.replace(tzinfo=UTC)),
            "level": st.sampled_from(["error", "warn", "crit"]),
            "pid": number,
            "thread": number,
            "connection": st.none() | number,
            "message": plain_message.filter(lambda m: m[0] != "*" and ", client: " not in m),
            "client": st.none() | ips,
        },
        lambda r: (
            f"{r['time']:%Y/%m/%d %H:%M:%S} [{r['level']}] {r['pid']}#{r['thread']}: "
            + ("" if r["connection"] is None else f"*{r['connection']} ")
            + r["message"]
            + ("" if r["client"] is None else f", client: {r['client']}, server: _")
        ),
    ),
    "apache.error": written(
        {
            "time": moments.map(lambda t: t.replace(tzinfo=UTC)),
            "module": names.map(str.lower),
            "level": st.sampled_from(["error", "warn", "trace8"]),
            "pid": number,
            "client": ips,
            "message": plain_message.filter(lambda m: not m.startswith("AH")),
        },
        lambda r: (
            f"[{DAYS[r['time'].weekday()]} {MONTHS[r['time'].month - 1]} "
            f"{r['time']:%d %H:%M:%S.%f %Y}] [{r['module']}:{r['level']}] [pid {r['pid']}] "
            f"[client {r['client']}] {r['message']}"
        ),
    ),
    "syslog.rfc5424": written(
        {
            "facility": st.sampled_from(["kern", "mail", "authpriv", "ftp"]),
            "severity": st.integers(0, 7),
            "time": st.none() | moments,
            "host": word_or_none,
            "app": word_or_none,
            "pid": st.none() | number,
            "procid": st.none(),
            "msgid": word_or_none,
            "data": st.none()
            | st.dictionaries(
                names, st.dictionaries(names, message, max_size=3), min_size=1, max_size=2
            ),
            "message": st.none() | message,
        },
        rfc5424,
    ),
    "syslog.rfc3164": written(
        {
            "host": names,
            "app": names,
            "pid": number,
            "message": plain_message,
            "severity": st.just(5),
        },
        lambda r: f"<13>Oct 10 13:55:36 {r['host']} {r['app']}[{r['pid']}]: {r['message']}",
    ),
    "glog": written(
        {
            "level": st.sampled_from(["INFO", "WARNING", "ERROR", "FATAL"]),
            "thread": number,
            "file": names.map(lambda name: f"{name}.go"),
            "line": number,
            "message": plain_message,
        },
        lambda r: (
            f"{r['level'][0]}1010 13:55:36.000001 {r['thread']:>7} {r['file']}:{r['line']}] "
            f"{r['message']}"
        ),
    ),
    "json": written(
        {
            "level": names,
            "value": st.none() | st.booleans() | number | st.floats(allow_nan=True) | message,
            "inner": st.dictionaries(names, st.lists(number, max_size=3), max_size=2),
        },
        json.dumps,
    ),
    "logfmt": written(
        {"level": names.map("x{}".format), "n": number, "ok": st.booleans(), "msg": message},
        lambda r: f"level={r['level']} n={r['n']} ok={str(r['ok']).lower()} msg={quoted(r['msg'])}",
    ),
    "docker.json": written(
        {"time": moments, "stream": st.sampled_from(["stdout", "stderr"]), "message": message},
        lambda r: json.dumps(
            {"log": r["message"] + "\n", "stream": r["stream"], "time": r["time"].isoformat()},
            separators=(",", ":"),
        ),
    ),
    "cri": written(
        {
            "time": moments,
            "stream": st.sampled_from(["stdout", "stderr"]),
            "partial": st.booleans(),
            "message": st.just("") | message,
        },
        lambda r: f"{r['time'].isoformat()} {r['stream']} {'FP'[r['partial']]} {r['message']}",
    ),
    "python.logging": written(
        {
            "time": millis.map(lambda t: t.replace(tzinfo=UTC)),
            "logger": names,
            "level": st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
            "message": message,
        },
        lambda r: (
            f"{r['time']:%Y-%m-%d %H:%M:%S},{r['time'].microsecond // 1000:03} - "
            f"{r['logger']} - {r['level']} - {r['message']}"
        ),
    ),
    "python.basic": written(
        {"level": st.sampled_from(["DEBUG", "ERROR"]), "logger": names, "message": message},
        lambda r: f"{r['level']}:{r['logger']}:{r['message']}",
    ),
    "java.log4j": written(
        {
            "time": millis.map(lambda t: t.replace(tzinfo=UTC)),
            "thread": names,
            "level": st.sampled_from(["TRACE", "INFO", "WARN", "FATAL"]),
            "logger": names,
            "message": message,
        },
        lambda r: (
            f"{r['time']:%Y-%m-%d %H:%M:%S},{r['time'].microsecond // 1000:03} "
            f"[{r['thread']}] {r['level']:5} {r['logger']} - {r['message']}"
        ),
    ),
    "go.log": written(
        {
            "time": moments.map(lambda t: t.replace(tzinfo=UTC)),
            "file": names.map(lambda name: f"{name}.go"),
            "line": number,
            "message": plain_message.filter(
                lambda m: not m.startswith(("INFO", "WARN", "ERR", "DEB"))
            ),
        },
        lambda r: f"{r['time']:%Y/%m/%d %H:%M:%S.%f} {r['file']}:{r['line']}: {r['message']}",
    ),
    "postgresql": written(
        {
            "time": millis,
            "pid": number,
            "user": names,
            "database": names,
            "level": st.sampled_from(["LOG", "ERROR", "STATEMENT", "FATAL"]),
            "message": plain_message.filter(lambda m: not m.startswith("duration: ")),
        },
        lambda r: (
            f"{r['time'].astimezone(UTC):%Y-%m-%d %H:%M:%S}.{r['time'].microsecond // 1000:03} "
            f"UTC [{r['pid']}] {r['user']}@{r['database']} {r['level']}:  {r['message']}"
        ),
    ),
    "redis": written(
        {"pid": number, "time": millis.map(lambda t: t.replace(tzinfo=UTC)), "message": message},
        lambda r: (
            f"{r['pid']}:M {r['time'].day:02} {MONTHS[r['time'].month - 1]} "
            f"{r['time']:%Y %H:%M:%S}.{r['time'].microsecond // 1000:03} * {r['message']}"
        ),
    ),
    "dpkg": written(
        {
            "time": whole.map(lambda t: t.replace(tzinfo=UTC)),
            "action": st.sampled_from(["install", "upgrade", "remove"]),
            "package": names.map(str.lower).filter(lambda name: len(name) > 1),
            "arch": st.sampled_from(["amd64", "all"]),
            "previous": word_or_none,
            "version": word_or_none,
        },
        lambda r: (
            f"{r['time']:%Y-%m-%d %H:%M:%S} {r['action']} {r['package']}:{r['arch']} "
            f"{r['previous'] or '<none>'} {r['version'] or '<none>'}"
        ),
    ),
    "cef": written(
        {
            "vendor": message,
            "name": message,
            "severity": st.integers(0, 10),
            "version": number.map(lambda n: n % 9),
        },
        lambda r: (
            f"CEF:{r['version']}|{escaped_cef(r['vendor'])}|p|1|s|{escaped_cef(r['name'])}|"
            f"{r['severity']}|src=1.2.3.4"
        ),
    ),
}


def quoted(text):
    """As Go's ``strconv.Quote`` for what matters."""
    inner = "".join(
        "\\" + char if char in '"\\' else char if char.isprintable() else f"\\u{ord(char):04x}"
        for char in text
        if ord(char) < 0x10000
    )
    return f'"{inner}"'


def escaped_cef(text):
    return text.replace("\\", "\\\\").replace("|", "\\|")


PARSER = logs.Parser()


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_what_was_written_is_read_and_by_no_other(name):
    mine = formats.get(name)

    @settings(max_examples=40)
    @given(WRITERS[name])
    def check(pair):
        line, record = pair
        if name == "logfmt":
            record["msg"] = "".join(char for char in record["msg"] if ord(char) < 0x10000)
        found = mine.try_parse(line)
        assert found is not None, mine.explain(line)
        for field, value in record.items():
            if not isinstance(value, float) or math.isfinite(value):
                assert (field, found[field]) == (field, value)
        batch = PARSER.parse_lines([line])
        assert [each.name for each in batch.formats] == [name]

    check()


LINES = [line for lines in SAMPLES.values() for line in lines]
pieces = st.sampled_from(
    [*LINES, "", "\x1b[0m", "\0", "\r", "\ufeff", " ", "{", "<13>1 ", "[", '"']
)
texts = st.lists(pieces | st.text(max_size=20), max_size=4).map("".join)
cuts = st.tuples(texts, st.integers(0, 200), st.integers(0, 200)).map(
    lambda t: t[0][t[1] : t[1] + t[2]]
)
anything = st.binary(max_size=60) | texts | cuts | texts.map(lambda t: t.encode("utf-8", "ignore"))


@settings(max_examples=300)
@given(st.lists(anything, max_size=12), st.sampled_from(["replace", "latin-1"]))
def test_whatever_comes_each_line_is_a_record_or_a_reject(lines, fallback):
    parser = logs.Parser(fallback=fallback)
    batch = parser.parse_lines(lines)
    places = [*batch.numbers, *(reject.number for reject in batch.rejects)]
    assert sorted(places) == list(range(len(lines)))
    assert batch.counts.lines == len(lines)
    for number, record, known in zip(batch.numbers, batch.records, batch.formats, strict=True):
        alone = PARSER.parse_lines([lines[number]]) if fallback == "replace" else None
        if alone is not None:
            assert (repr(alone.records[0]), alone.formats[0]) == (repr(record), known)
    for line in lines[:2]:
        assert str(parser.explain(line)) is not None


@given(st.lists(cuts, max_size=20))
def test_what_a_line_is_does_not_depend_on_those_before_it(lines):
    together = PARSER.parse_lines(lines)
    alone = [PARSER.parse_lines([line]) for line in lines]
    assert repr(together.records) == repr([r for each in alone for r in each.records])
    assert [f.name for f in together.formats] == [f.name for each in alone for f in each.formats]


@given(
    moments,
    st.integers(0, 9),
    st.sampled_from("T ,t"),
    st.sampled_from(["Z", "z", "", "+02:00", "+0200", " -0330"]),
)
def test_the_fast_reader_of_times_is_the_slow_one(moment, digits, mark, zone):
    text = f"{moment:%Y-%m-%d}{'T' if mark == ',' else mark}{moment:%H:%M:%S}"
    if digits:
        text += ("," if mark == "," else ".") + f"{moment.microsecond:06}123"[:digits]
    text += zone
    assert c.iso_time().compile().try_parse(text) is not None
    found = iso(ZONES[1])(text)
    micro = int(f"{moment.microsecond:06}123"[:digits][:6].ljust(6, "0"))
    assert found.replace(tzinfo=None) == moment.replace(tzinfo=None, microsecond=micro)
    offset = {"": 7200, "+02:00": 7200, "+0200": 7200, " -0330": -12600}.get(zone, 0)
    assert found.utcoffset().total_seconds() == offset
