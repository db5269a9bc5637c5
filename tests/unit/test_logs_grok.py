"""Grok patterns: what is read, what is typed, what is refused and why; bounded time."""

import time

import pytest
from log_lines import NOW, T

from hastack.errors import InvalidArgument
from hastack.observe.logs import combinators as c
from hastack.observe.logs import grok

FIELDLESS = [
    name
    for name in grok.LIBRARY
    if name
    not in {
        *("SYSLOGPROG", "SYSLOGBASE", "SYSLOGFACILITY", "COMMONAPACHELOG", "COMBINEDAPACHELOG"),
        *("HTTPD_COMMONLOG", "HTTPD_COMBINEDLOG"),
    }
]
ACCESS = 'h.example - ada [10/Oct/2026:15:55:36 +0200] "{}" 200 2326 "https://x/" "Mozilla/5.0"'


def read(pattern, line, **options):
    return grok.compile("x", pattern, now=lambda: NOW, **options).try_parse(line)


def test_the_combined_log():
    found = read("%{COMBINEDAPACHELOG}", ACCESS.format("GET /a?b=1 HTTP/1.1"))
    assert found == {
        "clientip": "h.example",
        "ident": "-",
        "auth": "ada",
        "timestamp": "10/Oct/2026:15:55:36 +0200",
        "verb": "GET",
        "request": "/a?b=1",
        "httpversion": "1.1",
        "rawrequest": None,
        "response": "200",
        "bytes": "2326",
        "referrer": '"https://x/"',
        "agent": '"Mozilla/5.0"',
    }
    assert read("%{COMBINEDAPACHELOG}", ACCESS.format("GET /a"))["request"] == "/a"
    assert read("%{COMBINEDAPACHELOG}", ACCESS.format("?"))["rawrequest"] == "?"


SAMPLES = {
    "WORD": "a_1", "NOTSPACE": "a/b", "SPACE": "  ", "DATA": "", "GREEDYDATA": "a b",
    "USERNAME": "a.b-c", "USER": "ada", "HTTPDUSER": "ada@x.org", "EMAILLOCALPART": "a+b",
    "EMAILADDRESS": "ada@x.org", "QUOTEDSTRING": '"a \\" b"', "QS": "'a'", "INT": "-7",
    "POSINT": "70", "NONNEGINT": "07", "BASE10NUM": "-1.5", "NUMBER": ".5", "BASE16NUM": "0xff",
    "BOOL": "TRUE", "UUID": "123e4567-e89b-12d3-a456-426614174000", "MAC": "aa:bb:cc:dd:ee:ff",
    "IPV4": "10.0.0.7", "IPV6": "fe80::1", "IP": "::1", "HOSTNAME": "a-b.example.com",
    "IPORHOST": "example.com", "HOST": "x", "HOSTPORT": "10.0.0.7:80", "URIPROTO": "https",
    "URIHOST": "x.org:80", "URIPATH": "/a/b.c", "URIPARAM": "?a=b&c", "URIPATHPARAM": "/a?b",
    "URI": "https://u:p@x.org:80/a?b=c", "UNIXPATH": "/var/log/x.1", "WINPATH": "C:\\a\\b",
    "PATH": "/a", "JAVACLASS": "com.shop.Order$1", "JAVAFILE": "Order.java", "MONTH": "June",
    "MONTHNUM": "3", "MONTHDAY": "31", "DAY": "Tuesday", "YEAR": "2026", "HOUR": "1",
    "MINUTE": "59", "SECOND": "7.25", "TIME": "1:02:03.5", "TZ": "CEST", "ISO8601_TIMEZONE": "+0200",
    "TIMESTAMP_ISO8601": "2026-10-10T13:55:36.003Z", "DATE_US": "10/31/2026",
    "DATE_EU": "31.10.2026", "DATE": "1/2/26", "DATESTAMP": "1/2/26 13:55", "PROG": "sshd",
    "HTTPDATE": "10/Oct/2026:13:55:36 +0000", "SYSLOGTIMESTAMP": "Oct 10 13:55:36",
    "LOGLEVEL": "Warning", "SYSLOGHOST": "web1",
}  # fmt: skip


def test_the_library_reads_what_its_names_say():
    assert set(SAMPLES) == set(FIELDLESS)
    for name, text in SAMPLES.items():
        assert read(f"%{{{name}:x}}", text) == {"x": text}, name
        assert read(f"<%{{{name}:x}}> %{{INT:n}}", f"<{text}> 7") == {"x": text, "n": "7"}, name


def test_repetitions_leave_what_follows_needs():
    assert read("%{DATA:a} %{INT:b:int}$", "hello world 42") == {"a": "hello world", "b": 42}
    assert read("%{GREEDYDATA:a}: %{INT:b:int}", "x: y: 42") == {"a": "x: y", "b": 42}
    assert read("%{NOTSPACE:a}:%{INT:b}", "x:y:42") == {"a": "x:y", "b": "42"}
    assert read("(?:%{WORD:a} )?%{INT:n}", "12") == {"a": None, "n": "12"}
    assert read("%{DATA:a}(?: %{INT:n})?", "x 12") == {"a": "x", "n": "12"}
    assert read(r"(?<a>\w+?)b+(?<c>c*)", "abbb") == {"a": "a", "c": ""}
    assert read("(?<a>x*)(?:y|z)(?<b>.)", "xxyz") == {"a": "xx", "b": "z"}
    assert read("(?<a>x{2,3})x", "xxx") == {"a": "xx"}
    assert read("(?<a>x{,2})(?<b>x{2})", "xxx") == {"a": "x", "b": "xx"}
    assert read("(?<a>.*?)(?:b|)", "ab") == {"a": "a"}
    assert read("%{WORD:a}(?: %{WORD})*", "a b c d") == {"a": "a"}
    assert read("(?:%{INT},){2,}%{WORD:a}", "1,2,3,x") == {"a": "x"}
    assert read("(?:%{INT:n}){1}(?<a>(?:ab)+)?", "7abab") == {"n": "7", "a": "abab"}


def test_syntax():
    assert read(r"^\[(?P<a>[[:alpha:]\h]+)\]\t\d\s\w\.$", "[xf]\t1 a.") == {"a": "xf"}
    assert read(r"(?i:get|put) (?<a>[^]]*)\z", "GeT x") == {"a": "x"}
    assert read(r"(?<a>\h+)\z", "aF") == {"a": "aF"}
    assert read(r"\A(?<a>(?!b)\S+)\b(?>!)", "abc!") == {"a": "abc"}
    assert read("(?<a>a|bc)[0-9]{2}", "bc12") == {"a": "bc"}
    assert read("a{b (?<a>.)", "a{b x") == {"a": "x"}
    assert read("(x|(?<a>y)|)(?<b>z)", "yz") == {"a": "y", "b": "z"}
    assert read(r"(?<a>[\[a]+)", "[a") == {"a": "[a"}
    assert read(r"(?<a>é*)é", "ééé") == {"a": "éé"}
    assert read("^x|(?<a>y)$", "y") == {"a": "y"}


def test_types():
    pattern = (
        "%{INT:a:int} %{NUMBER:[b][c]:float} %{WORD:c:bool} %{TIMESTAMP_ISO8601:d:timestamp} "
        "%{NOTSPACE:e:duration} %{NOTSPACE:f:size} %{BASE16NUM:g:hex} %{WORD:h:string}"
    )
    format_ = grok.compile("x", pattern)
    assert format_.try_parse("7 1.5 yes 2026-10-10T13:55:36Z 2ms 4KiB ff x") == {
        "a": 7,
        "b.c": 1.5,
        "c": True,
        "d": T,
        "e": 0.002,
        "f": 4096,
        "g": 255,
        "h": "x",
    }
    assert format_.try_parse("7 1.5 yes 2026-10-10T13:55:36Z 2 4096 ff x")["e"] == 2.0
    assert format_.fields["d"] == "timestamp"
    for text in ("10/Oct/2026:13:55:36 +0000", "Oct 10 13:55:36", "Sat Oct 10 13:55:36 2026"):
        assert read("(?<t>.*)", text)["t"] == text
        assert read("%{GREEDYDATA:t:timestamp}", text)["t"] == T
    assert read("%{GREEDYDATA:t:timestamp}", "yesterday") is None


def test_what_follows_may_be_kept():
    assert read("%{WORD:a}", "x y") is None
    assert read("%{WORD:a}", "x y", rest="more") == {"a": "x", "more": " y"}
    assert read("%{WORD:a} (?<b>.*?)", "x y", rest="more") == {"a": "x", "b": "", "more": "y"}


def test_own_patterns_and_files(tmp_path):
    path = tmp_path / "shop"
    path.write_text("# of the shop\n\nORDER  #\\d+\nLATE %{ORDER:order} %{WORD:why}\n")
    patterns = grok.load(path)
    assert read("%{LATE}", "#12 rain", patterns=patterns) == {"order": "#12", "why": "rain"}
    path.write_text("ORDER\n")
    with pytest.raises(InvalidArgument, match="line 1"):
        grok.load(path)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("%{NOPE:a}", "the name NOPE"),
        ("%{A:x}", "A, which refers to itself|B, which"),
        ("%{BAD:x}", "in BAD: a '\\)' too many"),
        ("(?:%{WORD:a},)*x", "a field in what is repeated"),
        ("%{WORD:a:date}", "the type date"),
        ("(?<a>%{WORD:b})", "the field a around other fields"),
        ("(?<a>x", "a group without an end at column 1"),
        ("(?<a>x))", "a '\\)' too many at column 8"),
        ("(?<a>x)(?x)y", "flags at column 8"),
        ("(?m:x)(?<a>y)", "flags"),
        ("(?#x)(?<a>y)", "the group at column 1"),
        ("*(?<a>x)", "nothing to repeat"),
        ("{2}(?<a>x)", "nothing to repeat"),
        ("(?<a>[x)", "a class without an end"),
        ("(?<a>[z-a])", "the class"),
        ("(?<a>x)^*", "a place that is repeated"),
        (r"(?<a>x)\1", r"\\1 at column 8"),
        ("(?<a>x)\\", "at column 8"),
        ("(?<a>x)(?=%{WORD})", "a reference in a look-around"),
        ("(?<a>x)(?=[)", "look-around|class|group"),
        ("(?<a>x)(?<=a?)", "requires fixed-width"),
        ("(" * 50 + "(?<a>x)" + ")" * 50, "deep"),
        ("", "pattern"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_reason(pattern, reason):
    patterns = {"A": "%{B}", "B": "%{A}", "BAD": "x)"}
    with pytest.raises(InvalidArgument, match=reason):
        grok.compile("x", pattern, patterns=patterns)


def test_what_cannot_be_bound_is_refused():
    for pattern in ("(?:.*a|b)*%{WORD:x}", "(?<x>(?:.*a|b)*)", "(?<x>a)(?=b*c)", "(?<x>(?:a?)*)"):
        with pytest.raises(c.Unbounded):
            grok.compile("x", pattern)
    with pytest.raises(InvalidArgument, match="field"):
        grok.compile("x", "abc")


def test_hostile_lines_take_little_time():
    patterns = [
        "%{COMBINEDAPACHELOG}",
        "%{DATA:a} %{DATA:b} %{DATA:c} x",
        "%{GREEDYDATA:a} %{GREEDYDATA:b} %{GREEDYDATA:c} x",
        "%{NOTSPACE:a}:%{NOTSPACE:b}:%{NOTSPACE:c} ",
    ]
    lines = [" " * 65536, "a:" * 32768, "1.1.1.1 - - [" + '"' * 65536, "a " * 32768]
    start = time.process_time()
    for pattern in patterns:
        made = grok.compile("x", pattern)
        for line in lines:
            made.try_parse(line)
    assert time.process_time() - start < 20  # what runs away takes hours


def test_long_texts_that_follow_are_shortened():
    words = "|".join(f"word{number}" for number in range(200))
    assert read(f"%{{DATA:a}}(?:{words}) (?<b>.)", "x word7 y") == {"a": "x ", "b": "y"}
    assert read(f"%{{DATA:a}}(?:{words}|(?:x?y?)){{3}}", "xword1word2") == {"a": ""}
    assert read(f"%{{DATA:a}}(?:{words})?", "x word7") == {"a": "x "}
    assert read(f"%{{DATA:a}}(?:{words}|y?)", "word7") == {"a": ""}
    assert read(f"%{{DATA:a}}(?:{words}|é|\\Z)", "x é") == {"a": "x "}
    assert read(f"%{{DATA:a}}{'y' * 300}(?<b>z)", "x" + "y" * 300 + "z") == {"a": "x", "b": "z"}
