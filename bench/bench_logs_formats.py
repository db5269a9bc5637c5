"""Mixed lines to typed records: `logs.Parser` beside parsy and pygrok, in one process.

usage: python bench/bench_logs_formats.py [LINES]

Costs are processor time of the process, best of several rounds. The peers are told which line is of
which format; the parser finds it out.
"""

import json
import sys
import time
from datetime import datetime
from pathlib import Path

import parsy
import pygrok

from hastack.observe import logs
from hastack.observe.logs import formats

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
from log_lines import SAMPLES

ROUNDS = 7


def access(n):
    return (
        f"203.0.113.{n % 250} - ada [10/Oct/2026:13:{n // 2400 % 60:02}:{n // 40 % 60:02} +0200] "
        f'"GET /order/{n}?full=1 HTTP/1.1" 200 {n} "https://shop.example/cart" '
        '"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101"'
    )


def json_line(n):
    return (
        f'{{"time":"2026-10-10T13:{n // 60 % 60:02}:{n % 60:02}.{n % 1000:03}Z","level":"info",'
        f'"msg":"order done","order":{n},"ms":{n % 977}.5,"ok":true,"user":{{"id":{n % 99}}}}}'
    )


def syslog(n):
    return (
        f"<165>1 2026-10-10T13:{n // 60 % 60:02}:{n % 60:02}.{n % 1000:03}Z web{n % 9}.example.com "
        f'shop {4200 + n % 50} ID47 [order@32473 id="{n}" state="done"] order {n} is done'
    )


KINDS = {"nginx combined": access, "JSON": json_line, "RFC 5424": syslog}


def parsy_readers():
    word, space = parsy.regex("[^ ]+"), parsy.string(" ")
    quoted = parsy.regex('"([^"\\\\]*(?:\\\\.[^"\\\\]*)*)"', group=1)
    number = parsy.regex("[0-9]+").map(int)
    clf = parsy.regex("[^]]+").map(lambda text: datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z"))
    pair = parsy.seq(space >> parsy.regex("[^=]+"), parsy.string("=") >> quoted)
    element = parsy.seq(parsy.string("[") >> parsy.regex("[^ \\]]+"), pair.many().map(dict))
    nginx = parsy.seq(
        client=word << space,
        ident=word << space,
        user=word << parsy.string(" ["),
        time=clf << parsy.string("] "),
        request=quoted << space,
        status=number << space,
        size=number << space,
        referer=quoted << space,
        agent=quoted,
    )
    rfc5424 = parsy.seq(
        priority=parsy.string("<") >> number << parsy.string(">"),
        version=number << space,
        time=word.map(datetime.fromisoformat) << space,
        host=word << space,
        app=word << space,
        pid=number << space,
        msgid=word << space,
        data=(element << parsy.string("]")).many().map(dict) << space,
        message=parsy.regex(".*"),
    )
    return [nginx.parse, json.loads, rfc5424.parse]


def grok_readers():
    nginx = pygrok.Grok(
        "%{IPORHOST:client} %{USER:ident} %{USER:user} \\[%{HTTPDATE:time}\\] "
        '"%{WORD:verb} %{NOTSPACE:path} HTTP/%{NUMBER:version}" %{NUMBER:status:int} '
        "%{NUMBER:size:int} %{QS:referer} %{QS:agent}"
    )
    rfc5424 = pygrok.Grok(
        "<%{NONNEGINT:priority:int}>%{NONNEGINT:version:int} %{TIMESTAMP_ISO8601:time} "
        "%{HOSTNAME:host} %{WORD:app} %{INT:pid:int} %{WORD:msgid} \\[%{DATA:data}\\] "
        "%{GREEDYDATA:message}"
    )
    return [nginx.match, json.loads, rfc5424.match]


def rate(run, count):
    """Lines per second: the best of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return count / best


def by_peer(readers, lines):
    records = []
    for number, line in enumerate(lines):
        records.append(readers[number % len(readers)](line))
    assert None not in records


def by_parser(parser, lines):
    """A thousand lines at a time, as they would be on their way to somewhere."""
    for start in range(0, len(lines), 1000):
        batch = parser.parse_lines(lines[start : start + 1000])
        assert not batch.rejects


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000
    makers = list(KINDS.values())
    mixed = [makers[n % 3](n + 1000) for n in range(count)]
    few = mixed[: count // 10]
    parser = logs.Parser()
    print(f"Python {sys.version.split()[0]}; lines per second of processor time.\n")
    print("| mixed nginx, JSON, RFC 5424 | lines/s |\n|---|---:|")
    rows = {"hastack": rate(lambda: by_parser(parser, mixed), count)}
    raw = [line.encode() + b"\n" for line in mixed]
    rows["hastack, bytes with their ends"] = rate(lambda: by_parser(parser, raw), count)
    rows["parsy + json"] = rate(lambda: by_peer(parsy_readers_, few), len(few))
    rows["pygrok + json"] = rate(lambda: by_peer(grok_readers_, few), len(few))
    for name, value in rows.items():
        print(f"| {name} | {value:,.0f} |")
    print("\n| lines of one format | hastack | parsy or json | pygrok |\n|---|---:|---:|---:|")
    for place, (name, maker) in enumerate(KINDS.items()):
        lines = [maker(n + 1000) for n in range(count)]
        ours = rate(lambda lines=lines: by_parser(parser, lines), count)
        some = lines[: count // 10]
        peers = [
            rate(lambda r=readers[place], some=some: by_peer([r], some), len(some))
            for readers in (parsy_readers_, grok_readers_)
        ]
        shown = ["" if name == "JSON" and p else f"{value:,.0f}" for p, value in enumerate(peers)]
        print(f"| {name} | {ours:,.0f} | {shown[0]} | {shown[1]} |")
    others()


def others():
    """Every other format by a sample of its own, and lines that are of none."""
    print("\n| format | lines/s |\n|---|---:|")
    for name in formats.names():
        lines, parser = list(SAMPLES[name])[:1] * 2000, logs.Parser([name])
        print(f"| {name} | {rate(lambda p=parser, some=lines: p.parse_lines(some), 2000):,.0f} |")
    unknown = ["what is this, and 7 more of it?"] * 2000
    print(f"| none | {rate(lambda: logs.Parser().parse_lines(unknown), 2000):,.0f} |")


parsy_readers_ = parsy_readers()
grok_readers_ = grok_readers()

if __name__ == "__main__":
    main()
