"""Reading nginx's combined format: compiled, slow, plain parsy, a hand-written expression.

usage: python bench/bench_logs.py
"""

import re
import time

import parsy
from harness import ns_per_call, table

from hastack.observe.logs import combinators as c

LINE = (
    '203.0.113.7 - ada [10/Oct/2026:13:55:36 +0200] "GET /order/42?full=1 HTTP/1.1" 200 2326 '
    '"https://shop.example/cart" "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101"'
)
SIZE = 64 * 1024


def ours():
    return c.seq(
        *(c.field("client", c.token()), " ", c.field("ident", c.token()), " "),
        *(c.field("user", c.token()), " [", c.field("time", c.clf_time), "] "),
        *(c.field("request", c.quoted()), " ", c.field("status", c.integer), " "),
        *(c.field("size", c.integer), " ", c.field("referer", c.quoted()), " "),
        c.field("agent", c.quoted()),
    )


def plain_parsy():
    word, quoted = parsy.regex("[^ ]+"), parsy.regex('"([^"\\\\]*(?:\\\\.[^"\\\\]*)*)"', group=1)
    number, space = parsy.regex("[0-9]+").map(int), parsy.string(" ")
    return parsy.seq(
        client=word << space,
        ident=word << space,
        user=word << parsy.string(" ["),
        time=parsy.regex("[^]]+") << parsy.string("] "),
        request=quoted << space,
        status=number << space,
        size=number << space,
        referer=quoted << space,
        agent=quoted,
    )


def by_hand():
    quoted = '"([^"\\\\]*(?:\\\\.[^"\\\\]*)*)"'
    pattern = re.compile(rf"(\S+) (\S+) (\S+) \[([^]]+)\] {quoted} (\d+) (\d+) {quoted} {quoted}")
    names = ["client", "ident", "user", "time", "request", "status", "size", "referer", "agent"]
    return lambda: dict(zip(names, pattern.match(LINE).groups(), strict=True))


def hostile():
    for name, parser, text in (
        ("quoted", c.quoted(), '"' + "\\" * SIZE),
        ("until", c.until("--"), "-x" * (SIZE // 2)),
        ("token", c.seq(c.token(), "!"), "a" * SIZE),
        ("integer", c.seq(c.integer, "!"), "9" * SIZE),
        ("number", c.seq(c.number, "!"), "1" * SIZE),
        ("ip", c.ip, "1:" * (SIZE // 2)),
        ("iso_time", c.iso_time(), "2026-01-01T00:00:00." + "1" * SIZE),
        ("duration", c.duration, "1h" * (SIZE // 2)),
        ("url", c.seq(c.url, " "), "http://" + "a" * SIZE),
        ("json_value", c.json_value, "[" * SIZE),
        ("pairs", c.seq(c.pairs, "!"), "a=b " * (SIZE // 4)),
        ("many", c.seq(c.many(c.seq(c.token(), c.opt(c.spaces))), "!"), "a " * (SIZE // 2)),
        ("sep_by", c.seq(c.sep_by(c.token(stop=","), ","), "!"), "a," * (SIZE // 2)),
    ):
        read = parser.compile()
        start = time.perf_counter()
        read.try_parse(text)
        print(f"| {name} | {(time.perf_counter() - start) * 1e3:.2f} |")


def main():
    grammar, theirs = ours(), plain_parsy()
    compiled = grammar.compile()
    assert compiled.parse(LINE) == grammar.parse(LINE)
    rows = {
        "hastack, compiled": ns_per_call(lambda: compiled.match(LINE, 0), number=5000),
        "hastack, as a parsy parser": ns_per_call(lambda: grammar.parse(LINE), number=1000),
        "parsy": ns_per_call(lambda: theirs.parse(LINE), number=500),
        "re by hand, all text": ns_per_call(by_hand(), number=5000),
    }
    table("One line of nginx's combined format", rows, base="hastack, compiled")
    print("\n| a hostile line of 64 KiB | ms |\n|---|---:|")
    hostile()


if __name__ == "__main__":
    main()
