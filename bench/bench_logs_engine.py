"""The log engine from a file to records: lines a second on one core and on two processes.

usage: python bench/bench_logs_engine.py [LINES]

The same lines go through the bare parser first, so that what the engine adds is seen. CPU time is of
this process and, with worker processes, of all; it is what a busy machine does not change.
"""

import gzip
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from hastack.observe import logs

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
NGINX = (
    '203.0.113.{n} - ada [10/Oct/2026:13:55:36 +0200] "GET /order/{i}?full=1 HTTP/1.1" 200 2326 '
    '"https://shop.example/cart" "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101"'
)
JSON = (
    '{{"time":"2026-10-10T13:55:36Z","level":"info","msg":"order taken","order":{i},"took":0.25}}'
)
SYSLOG = "<165>1 2026-10-10T13:55:36.123Z web{n} shop 4242 ID47 - order {i} taken"


def lines(count):
    for i in range(count):
        yield (NGINX, JSON, SYSLOG)[i % 3].format(i=i, n=i % 250)


def timed(work):
    start, began = time.perf_counter(), os.times()
    count = work()
    took, now = time.perf_counter() - start, os.times()
    cpu = sum(now[:4]) - sum(began[:4])
    return count / took, count / cpu


def best(name, work, rows, tries=3):
    found = [timed(work) for _ in range(tries)]
    rows[name] = (max(wall for wall, _ in found), max(cpu for _, cpu in found))


def ignored(batch):
    pass


def parser_alone(path):
    parser = logs.Parser()
    text = path.read_text().splitlines()
    total = 0
    for start in range(0, len(text), 5000):
        total += len(parser.parse_lines(text[start : start + 5000]).records)
    return total


def engine(path, sink=ignored, **options):
    account = logs.Engine(path, **options).run(sink)
    assert account.balanced
    assert not account.rejects
    return account.lines


def to_json(path, **options):
    with Path(os.devnull).open("wb") as null:
        return engine(path, logs.JsonLines(null), **options)


def latency(folder, count=200):
    """Seconds from the write of a line to its record."""
    path = folder / "followed.log"
    path.touch()
    run = logs.Engine(logs.Follow(path))
    written, found = {}, []

    def write():
        with path.open("a", buffering=1) as file:
            for i in range(count):
                time.sleep(0.013)
                written[i] = time.perf_counter()
                file.write(f"level=info order={i}\n")

    writer = threading.Thread(target=write)
    writer.start()
    for batch in run:
        now = time.perf_counter()
        found += [now - written[record["order"]] for record in batch.records]
        if len(found) == count:
            run.stop()
    writer.join()
    return sorted(found)


def main():
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "mixed.log"
        with path.open("w") as file:
            file.writelines(f"{line}\n" for line in lines(COUNT))
        packed = folder / "mixed.log.gz"
        packed.write_bytes(gzip.compress(path.read_bytes(), 6))
        print(
            f"{COUNT:,} lines, {path.stat().st_size / 1e6:.0f} MB; nginx, JSON, RFC 5424 in turn\n"
        )
        best("the parser alone, lines in memory", lambda: parser_alone(path), rows)
        best("file to dicts, one process", lambda: engine(path), rows)
        best("file to JSON lines, one process", lambda: to_json(path), rows)
        best("gzip archive to dicts, one process", lambda: engine(packed), rows)
        best("file to dicts, two processes", lambda: engine(path, processes=2), rows)
        best("file to JSON lines, two processes", lambda: to_json(path, processes=2), rows)
        print("| | lines/s | lines per CPU second |")
        print("|---|---:|---:|")
        for key, (wall, cpu) in rows.items():
            print(f"| {key} | {wall:,.0f} | {cpu:,.0f} |")
        found = latency(folder)
        print(
            f"\nfollow, a line every 13 ms: median {statistics.median(found) * 1e3:.0f} ms, "
            f"99 % within {found[int(len(found) * 0.99)] * 1e3:.0f} ms"
        )


if __name__ == "__main__":
    main()
