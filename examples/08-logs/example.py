"""From log lines of several kinds to records that programs can use.

Run: ``python examples/08-logs/example.py``
"""

from __future__ import annotations

import gzip
import json
import socket
import tempfile
import threading
import time
from pathlib import Path

from hastack.observe import logs

NGINX = (
    '203.0.113.{n} - - [10/Oct/2026:13:55:{s:02} +0200] "GET /order/{n} HTTP/1.1" {status} {size} '
    '"-" "curl/8.1"'
)


def access_log(count: int) -> str:
    """What nginx, an application that writes JSON, and one that writes logfmt leave in one file."""
    lines = []
    for n in range(count):
        status = 503 if n % 25 == 0 else 200
        lines.append(NGINX.format(n=n % 250, s=n % 60, status=status, size=n * 7))
        lines.append(json.dumps({"level": "info", "user": f"u{n}@example.org", "took": n / 1000}))
        lines.append(f'level=warn took={n}ms retries={n % 3} msg="order {n} was slow"')
    return "\n".join(lines) + "\nand one line that nobody knows\n"


def an_archive(folder: Path) -> None:
    """A compressed file, whole: schemas first, then records of one kind."""
    path = folder / "access.log.gz"
    path.write_bytes(gzip.compress(access_log(1000).encode()))

    with gzip.open(path, "rt") as lines:
        for schema in logs.infer(lines).values():
            print(schema.format, "has", ", ".join(f"{f.name}:{f.type}" for f in schema.fields[:4]))

    failed = logs.Engine(path, where=logs.Where("status >= 500 and path startswith '/order'"))
    print("failed:", sum(1 for _ in failed.records()))
    print("account:", failed.account())


def a_file_that_rotates(folder: Path) -> None:
    """A file that is followed, redacted and written as JSON, while it is rotated."""
    path, out = folder / "app.log", folder / "app.jsonl"

    def write() -> None:
        for part in range(4):
            with path.open("a") as file:
                for n in range(50):
                    file.write(f"level=info part={part} n={n} user=u{n}@example.org\n")
            time.sleep(0.05)
            path.rename(folder / f"app.log.{part}")
        path.write_text("level=info msg=end\n")

    source = logs.Follow(path, checkpoint=folder / "position", poll=0.02)
    engine = logs.Engine(source, redact=logs.Redactor())
    writer = threading.Thread(target=write)
    writer.start()
    with logs.JsonLines(out) as sink:
        for batch in engine:
            sink.write(batch)
            if any(record.get("msg") == "end" for record in batch.records):
                engine.stop()
    writer.join()
    records = [json.loads(line) for line in out.read_text().splitlines()]
    print("followed:", len(records), "records over 4 rotations")
    print("in order:", [r["n"] for r in records[:-1]] == list(range(50)) * 4)
    print("redacted:", records[0]["user"])


def a_listener() -> None:
    """Syslog over UDP and TCP."""
    listener = logs.SyslogListener()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.create_connection(listener.tcp_address) as stream,
    ):
        datagrams.sendto(b"<165>1 2026-10-10T22:14:15Z web1 shop 7 - - up", listener.udp_address)
        message = b"<34>1 2026-10-10T22:14:16Z web2 su - - - failed\nin two lines"
        stream.sendall(b"%d %s" % (len(message), message))
        engine = logs.Engine(listener)
        found = []
        for record in engine.records():
            found.append((record["host"], record["message"], record.get("continuation")))
            if len(found) == 2:
                engine.stop()
    print("received:", sorted(found))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        an_archive(Path(name))
        a_file_that_rotates(Path(name))
    a_listener()


if __name__ == "__main__":
    main()
