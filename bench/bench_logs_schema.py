"""Inferring schemas, making records what they say, redaction; genson, pyarrow and polars beside it.

usage: python bench/bench_logs_schema.py
"""

import copy
import json
import re
import sys
import time

from hastack.observe import logs

COMBINED = (
    '203.0.113.{n} - ada [10/Oct/2026:13:55:36 +0200] "GET /order/{n}?full=1 HTTP/1.1" 200 {n}326 '
    '"https://shop.example/cart" "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101"'
)
JSON = (
    '{{"ts":"2026-10-10T13:55:36.{n:03}Z","level":"info","msg":"request done","status":200,'
    '"took":0.{n:03},"user":{{"id":{n},"name":"ada"}},"tags":["a","b"]}}'
)
SYSLOG = (
    "<165>1 2026-10-10T13:55:36.{n:03}Z web1.example shop {n} ID{n} - "
    "request f81d4fae-7dec-11d0-a765-00a0c91e6bf6 of ada took 250ms"
)
SECRETS = (
    '{{"ts":"2026-10-10T13:55:36Z","user":"u{n}@example.org","authorization":"Bearer abcdef{n}",'
    '"paid":"4111 1111 1111 1111"}}'
)


def best(work, *, rounds=7):
    """Seconds of processor time of the fastest of some runs: others only make it slower."""
    costs = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        costs.append(time.process_time() - start)
    return min(costs)


def lines_of(form, count):
    return [form.format(n=n % 250) for n in range(count)]


def rates(title, rows, unit="lines/s"):
    print(
        f"\n### {title}\n\nPython {sys.version.split()[0]}; processor time, best of several runs.\n"
    )
    print(f"| | {unit} |\n|---|---:|")
    for name, value in rows.items():
        print(f"| {name} | {value:,.0f} |")


def inference():
    parser = logs.Parser()
    lines = [line for form in (COMBINED, JSON, SYSLOG) for line in lines_of(form, 100)]
    batch = parser.parse_lines(lines)
    cache = logs.SchemaCache()
    logs.infer(batch, cache=cache)
    key = logs.fingerprint(batch.formats[0])
    rows = {
        "100 lines x 3 formats, parsed and inferred, us": best(
            lambda: logs.infer(lines, parser=parser)
        )
        * 1e6,
        "the records alone, us": best(lambda: logs.infer(batch)) * 1e6,
        "looked up by fingerprint, ns": best(lambda: [cache.get(key) for _ in range(1000)]) * 1e6,
        "a reservoir of 1,000 of 1,000,000 lines, ms": best(
            lambda: logs.infer(iter(lines * 3334), parser=parser), rounds=3
        )
        * 1e3,
    }
    rates("Inference", rows, unit="time")


def peers():
    lines = lines_of(JSON, 20_000)
    records = [json.loads(line) for line in lines]
    rows = {
        "hastack, all records": 20_000 / best(lambda: logs.infer(records, sample=20_000), rounds=3)
    }
    try:
        from genson import SchemaBuilder
    except ImportError:
        pass
    else:

        def genson():
            builder = SchemaBuilder()
            for record in records:
                builder.add_object(record)
            return builder.to_schema()

        rows["genson, all records"] = 20_000 / best(genson, rounds=3)
    try:
        import pyarrow as pa
    except ImportError:
        pass
    else:
        rows["pyarrow, into a table"] = 20_000 / best(
            lambda: pa.Table.from_pylist(records), rounds=3
        )
    try:
        import polars as pl
    except ImportError:
        pass
    else:
        rows["polars, into a frame"] = 20_000 / best(lambda: pl.DataFrame(records), rounds=3)
    rates("Types of 20,000 JSON records, none left out", rows, unit="records/s")


def applying():
    parser = logs.Parser()
    rows = {}
    for name, form in (("combined", COMBINED), ("JSON", JSON), ("RFC 5424", SYSLOG)):
        records = parser.parse_lines(lines_of(form, 10_000)).records
        schema = next(iter(logs.infer({"x": records}).values()))
        costs = []
        for _ in range(5):
            fresh = copy.deepcopy(records)
            start = time.process_time()
            schema.apply(fresh)
            costs.append(time.process_time() - start)
        rows[f"{name}, {len(records[0])} fields"] = 10_000 / min(costs)
        tracker = logs.SchemaTracker([schema])
        rows[f"{name}, with drift"] = 10_000 / best(lambda: tracker.apply_records("x", fresh))  # noqa: B023
    rates("Records made what a schema says", rows, unit="records/s")


def by_expressions():
    """What most services do: one expression after the other over each line."""
    found = [
        re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"),
        re.compile(r"(?i)bearer\s+[\w.~+/-]+=*"),
        re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+"),
        re.compile(r"AKIA[A-Z0-9]{16}"),
        re.compile(r"\b(?:\d[ -]?){13,19}\b"),
        re.compile(r'(?i)(password|secret|token|api_key|authorization|cookie)["\']?\s*[=:]\s*\S+'),
    ]

    def redact(line):
        for each in found:
            line = each.sub("[x]", line)
        return line

    return redact


def redaction():
    redactor = logs.Redactor()
    hashing = logs.Redactor(email="hash", ip="hash", key=b"sixteen bytes or more", key_id="1")
    parser = logs.Parser()
    plain = by_expressions()
    rows = {}
    for name, form in (("combined", COMBINED), ("RFC 5424", SYSLOG), ("four secrets", SECRETS)):
        lines = lines_of(form, 10_000)
        rows[f"{name}: lines"] = 10_000 / best(lambda: redactor.lines(lines))  # noqa: B023
        rows[f"{name}: lines, ip and email hashed"] = 10_000 / best(lambda: hashing.lines(lines))  # noqa: B023
        rows[f"{name}: six expressions, one after the other"] = 10_000 / best(
            lambda: [plain(line) for line in lines],  # noqa: B023
            rounds=3,
        )
        records = parser.parse_lines(lines).records
        costs = []
        for _ in range(5):
            fresh = copy.deepcopy(records)
            start = time.process_time()
            redactor.apply_records(fresh)
            costs.append(time.process_time() - start)
        rows[f"{name}: records"] = 10_000 / min(costs)
    rates("Redaction", rows)


def main():
    inference()
    peers()
    applying()
    redaction()


if __name__ == "__main__":
    main()
