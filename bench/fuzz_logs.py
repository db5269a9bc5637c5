"""Throws broken lines at everything that reads lines, and counts: none is lost, nothing hangs.

usage: HASTACK_FUZZ_SECONDS=60 python bench/fuzz_logs.py [SEED]

Lines are samples of all formats, cut, joined, repeated and sprinkled with bytes; patterns of grok and
formats of web servers are made of their own syntax; two samples in one are of one format per rank. An input that takes more than a second or raises
what it should not ends the run and is printed.
"""

import contextlib
import os
import random
import sys
import time
from pathlib import Path

from hastack.errors import HastackError
from hastack.observe import logs
from hastack.observe.logs import combinators, formats, grok

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
from log_lines import SAMPLES

SLOW = 1.0  # seconds of processor time for one input
LINES = [line.encode() for lines in SAMPLES.values() for line in lines]
BYTES = [
    b"\0",
    b"\x1b[31m",
    b"\x1b]",
    b"\r",
    b"\n",
    b"\xff",
    b"\xef\xbb\xbf",
    b'"',
    b"\\",
    b" ",
    b"[",
]
BYTES += [b"]", b"{", b"<", b"=", b":", b"|", b"\xff\xfe", "\u00e9\u4e2d".encode(), b"-", b"0"]
GROK = [f"%{{{name}}}" for name in grok.LIBRARY] + [
    f"%{{{name}:x{n}}}" for n, name in enumerate(grok.LIBRARY)
]
GROK += [
    *list("()[]|?*+.^$\\ab "),
    "(?:",
    "(?<n>",
    "{2}",
    "{1,}",
    ".*",
    ".*?",
    "\\d+",
    "[^a]",
    "(?=",
    ")*",
]
WEB = [
    "$remote_addr",
    "$status",
    "${time_local}",
    '"$request"',
    "$x",
    " ",
    "-",
    "[",
    "]",
    '"',
    "%h",
]
WEB += ["%>s", "%{Referer}i", "%{%Y-%m}t", "%%", "%t", "%D", "%", "$", "{", "\\"]


def broken(chance):
    """A line that was one."""
    line = chance.choice(LINES)
    for _ in range(chance.randrange(5)):
        how, at = chance.randrange(7), chance.randrange(len(line) + 1)
        if how == 0:
            line = line[:at]
        elif how == 1:
            line = line[at:]
        elif how == 2:
            line = line[:at] + chance.choice(BYTES) * chance.choice([1, 1, 2, 50]) + line[at:]
        elif how == 3:
            line += chance.choice(LINES)
        elif how == 4:
            line = line[:at] + bytes([chance.randrange(256)]) + line[at + 1 :]
        elif how == 5 and len(line) < 5000:
            line = line[:at] + line[at:] * chance.choice([2, 3, 100])
        else:
            start = chance.randrange(len(line) + 1)
            line = line[:at] + line[start : start + 40] + line[at:]
    return line


def accounted(batch, count):
    places = sorted([*batch.numbers, *(reject.number for reject in batch.rejects)])
    assert places == list(range(count)), "a line is lost"
    assert len(batch.records) == len(batch.formats) == len(batch.numbers)
    assert batch.counts.lines == count == batch.counts.records + len(batch.rejects)


def read_lines(chance, parsers):
    lines = [broken(chance) for _ in range(chance.randrange(1, 40))]
    ends = chance.choice([b"", b"\n", b"\r\n"])
    lines = [line + ends for line in lines]
    if chance.random() < 0.3:
        lines = [
            line.decode("utf-8", chance.choice(["replace", "surrogateescape"])) for line in lines
        ]
    accounted(chance.choice(parsers).parse_lines(lines), len(lines))
    str(parsers[0].explain(chance.choice(lines)))
    return lines


def read_by_all(chance, parsers):
    """Formats of one rank read no line together."""
    one, other = (chance.choice(LINES).decode().partition("\n")[0].split(" ") for _ in "12")
    words = one[: chance.randrange(len(one) + 1)] + other[chance.choice([0, 0, 1]) :]
    line = " ".join(words)[chance.choice([0, 0, 0, 1]) :]
    readers = {}
    for each in parsers[0].formats:
        if (each.starts is None or line[:1] in each.starts) and each.try_parse(line) is not None:
            assert each.rank not in readers, f"{each} and {readers[each.rank]} read {line!r}"
            readers[each.rank] = each
    return line


def read_stream(chance, parsers):
    data = b"\n".join(broken(chance) for _ in range(chance.randrange(1, 40)))
    data = chance.choice([b"", b"", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"]) + data
    splitter = logs.Lines(longest=chance.choice([10, 1000, 1 << 20]))
    lines, at = [], 0
    while at < len(data):
        size = chance.choice([1, 7, 100, 5000])
        lines += splitter.feed(data[at : at + size])
        at += size
    lines += splitter.close()
    folder = logs.Folder(most_lines=chance.choice([2, 500]), most_size=chance.choice([50, 1 << 18]))
    entries = [entry for line in lines for entry in folder.push(line)] + folder.flush()
    assert len(entries) + folder.folded == len(lines), "folding lost a line"
    accounted(parsers[0].parse_lines(entries), len(entries))
    return data


def read_patterns(chance, parsers):
    text = "".join(chance.choice(GROK) for _ in range(chance.randrange(1, 8)))
    spec = "".join(chance.choice(WEB) for _ in range(chance.randrange(1, 10)))
    makers = [
        lambda: grok.compile("fuzz", text),
        lambda: formats.nginx("fuzz", spec),
        lambda: formats.apache("fuzz", spec),
    ]
    for make in makers:
        with contextlib.suppress(HastackError, combinators.Unbounded):
            made = make()
            for _ in range(4):
                line = broken(chance).decode("utf-8", "replace")
                if made.try_parse(line) is None:
                    assert made.explain(line) is not None
    return text, spec


def fuzz(seconds, seed):
    """Run for so long; how many inputs there were, by kind."""
    chance = random.Random(seed)
    parsers = [
        logs.Parser(),
        logs.Parser(fallback="latin-1", longest=chance.choice([10, 1000])),
        logs.Parser(list(reversed(formats.names()))),
    ]
    counts = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run = chance.choices([read_lines, read_stream, read_patterns, read_by_all], [6, 3, 1, 50])[
            0
        ]
        state, start = chance.getstate(), time.process_time()
        try:
            run(chance, parsers)
        except BaseException:
            chance.setstate(state)
            print(f"{run.__name__}, seed {seed}, run {sum(counts.values())}", file=sys.stderr)
            raise
        took = time.process_time() - start
        if took > SLOW and run is not read_patterns:
            raise AssertionError(f"{run.__name__} took {took:.1f} s, seed {seed}, {counts}")
        counts[run.__name__] = counts.get(run.__name__, 0) + 1
    return counts


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(1 << 32)
    print(fuzz(float(os.environ.get("HASTACK_FUZZ_SECONDS", "60")), seed), f"seed {seed}")
