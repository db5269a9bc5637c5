"""``hastack logs`` as people and scripts run it."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 40.0  # only ends what hangs
COMMAND = [sys.executable, "-m", "hastack", "logs"]

NGINX = '10.0.0.7 - ada [10/Oct/2026:13:55:36 +0200] "GET /order/{n} HTTP/1.1" {status} {n}'
LINES = [
    line
    for n in range(40)
    for line in (
        f'{NGINX.format(n=n, status=503 if n % 10 == 0 else 200)} "-" "curl/8.1"',
        json.dumps({"level": "info", "took": n / 4, "mail": "ada@example.org"}),
        f"level=warn took={n}ms user=u{n}",
    )
] + ["what is this line 7", "what is this line 8"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mixed.log"
    path.write_text("\n".join(LINES) + "\n")
    return path


def run(*arguments: object, given: bytes = b"", status: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=given,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err
    assert done.returncode == status, (done.returncode, err)
    return out, err


def test_infer_shows_each_format_with_confidence_and_examples(file: Path, tmp_path: Path) -> None:
    out, err = run("infer", file)
    assert max(map(len, out.splitlines())) <= 80
    assert "logfmt  version 1, 40 records looked at" in out
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert rows["took"].split()[1] in {"duration", "float"}
    assert "100% (>91%)" in rows["level"]
    assert "declared" in rows["size"]
    assert rows["client"].split()[1] == "ip"
    assert err.startswith("2 of 122 lines are of no known format, for example ")
    _, err = run("infer", file, "--sample", "5")
    assert "of 50 lines looked at" in err or not err  # whether one of the two is in the sample
    saved = tmp_path / "schemas.json"
    out, _ = run("infer", "-", "--json", "--save", saved, given=file.read_bytes())
    assert {schema["format"] for schema in json.loads(out)} == {"nginx.combined", "json", "logfmt"}
    out, _ = run("parse", file, "--schema", saved, "--where", "took > 38ms and took < 1s", "-q")
    assert [json.loads(line)["took"] for line in out.splitlines()] == [0.25, 0.5, 0.75, 0.039]
    _, err = run("infer", "-", given=b"a=1 b=2\n\n" * 3)
    assert not err  # an empty line is nobody's
    _, err = run("infer", "-", given=b"", status=1)
    assert "empty" in err
    _, err = run("infer", "-", given=b"no format at all\n", status=1)
    assert "none of 1 lines" in err


def test_parse_writes_records_and_the_account(file: Path, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects"
    out, err = run("parse", file, "--rejects", rejects)
    records = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 120
    assert records[0]["format"] == "nginx.combined"
    assert records[0]["status"] == 503
    assert "122 lines = 120 records + 2 rejects" in err
    assert "rejects: unknown format 2" in err
    assert rejects.read_text().splitlines() == LINES[-2:]
    out, _ = run("parse", file, "--where", "status >= 500", "--out", "text", "-q")
    assert len(out.splitlines()) == 4
    assert out.startswith("nginx.combined  client=10.0.0.7")
    run("parse", file, "--out", "none", "--strict", status=1)
    out, _ = run("parse", file, "--processes", 2, "-q")
    assert [json.loads(line) for line in out.splitlines()] == records
    out, _ = run("parse", file, "--templates", "-q", "--strict", "--format", "logfmt")
    assert {json.loads(line)["format"] for line in out.splitlines()} == {"logfmt", "template"}


def test_parse_takes_out_what_must_not_be_seen(file: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"sixteen bytes of key\n")
    rejects = tmp_path / "rejects"
    out, _ = run("parse", "-", "--redact", "email", "-q", "--rejects", rejects,
                 given=file.read_bytes() + b"mail to eve@example.org now\n")  # fmt: skip
    assert "ada@example.org" not in out
    assert "[email]" in out
    assert "eve@" not in rejects.read_text()
    out, _ = run("parse", file, "--redact", "email=hash", "--redact-key", key, "-q")
    assert len({json.loads(line).get("mail") for line in out.splitlines()} - {None}) == 1
    for wrong in (["what"], ["email=eat"], ["ip=hash"]):
        _, err = run("parse", file, "--redact", *wrong, status=2)
        assert "--redact" in err


def test_archives_and_damage_are_told_by_the_status(file: Path, tmp_path: Path) -> None:
    packed = tmp_path / "mixed.log.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert "122 lines" in run("parse", packed, "--out", "none")[1]
    packed.write_bytes(packed.read_bytes()[:-30])
    _, err = run("parse", packed, "--out", "none", status=1)
    assert "truncated gzip archive" in err


def test_mistakes_of_usage(file: Path, tmp_path: Path) -> None:
    _, err = run("parse", file, "--where", "status >= and", status=2)
    assert "status >= and\n          ^ expected a value or a field" in err
    _, err = run("parse", tmp_path / "absent", status=2)
    assert err.strip().endswith("absent: No such file or directory")
    _, err = run("parse", file, "--format", "nginx.what", status=2)
    assert "--format" in err
    _, err = run("parse", file, "-", status=2)
    assert "stands alone" in err
    _, err = run("parse", file, "--out", "parquet", status=2)
    assert "--to" in err
    _, err = run("parse", file, "--checkpoint", tmp_path / "c", status=2)
    assert "--follow" in err
    _, err = run("parse", file, "--processes", 0, status=2)
    assert "processes" in err


def test_explain_draws_a_caret(file: Path) -> None:
    out, _ = run("explain", LINES[2])
    assert out.splitlines()[0] == "format  logfmt"
    assert "took" in out
    out, _ = run("explain", "10.0.0.7 - ada [10/Oct/2026:13:55:36 +0200] GET", status=1)
    lines = out.splitlines()
    assert "no known format" in lines[0]
    caret = next(n for n, line in enumerate(lines) if line.strip() == "^")
    assert lines[caret].index("^") == 42
    assert lines[caret + 1].startswith("nginx.combined: column 43: expected")
    out, _ = run("explain", "-", "--all", given=b"x" * 5000, status=1)
    assert max(map(len, out.splitlines())) <= 200


def test_templates_are_counted(file: Path) -> None:
    out, _ = run("templates", file)
    assert max(map(len, out.splitlines())) <= 80
    assert "what is this line <*>" in out
    assert "122 lines" in out
    out, _ = run("templates", file, "--json", "--names", "--limit", 1)
    row = json.loads(out)
    assert row["count"] == 40
    assert set(row) == {"id", "count", "share", "template", "example"}
    assert "empty" in run("templates", "-")[1]


def test_parquet(file: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run("parse", file, "--out", "parquet", "--to", tmp_path / "out")
    table = parquet.read_table(tmp_path / "out" / "nginx.combined.parquet")
    assert table.num_rows == 40
    assert str(table.schema.field("time").type) == "timestamp[us, tz=UTC]"


# -- ends ----------------------------------------------------------------------------------------


def started(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=options.pop("stdin", subprocess.DEVNULL),
        **options,
    )


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, out.decode(), err.decode()


def test_a_broken_pipe_ends_it_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "large.log"
    path.write_text("level=info took=3ms\n" * 200_000)
    process = started("parse", path)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(PATIENCE) == 141
    assert err == b""


def test_follow_goes_on_until_ctrl_c(file: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    process = started("parse", file, "--follow", "--checkpoint", mark, "--where", "user")
    assert process.stdout is not None
    for _ in range(80):
        process.stdout.readline()
    with file.open("a") as log:
        log.write("level=info user=new\n")
    assert json.loads(process.stdout.readline())["user"] == "new"
    process.send_signal(signal.SIGINT)
    status, out, err = ended(process)
    assert (status, out) == (0, "")
    assert "123 lines = 121 records + 2 rejects, 81 chosen" in err
    assert "Traceback" not in err
    process = started("parse", file, "--follow", "--checkpoint", mark)
    with file.open("a") as log:
        log.write("level=info user=newer\n")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["user"] == "newer"
    process.send_signal(signal.SIGTERM)
    status, out, _ = ended(process)
    assert (status, out) == (0, "")


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_ends_a_pipe_in_order(processes: int) -> None:
    # A session of its own: Ctrl-C reaches the whole group, the workers too.
    process = started(
        "parse", "-", "--processes", processes, stdin=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"level=info took=1\n" * 10)
    process.stdin.flush()
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    status, _, err = ended(process)
    assert status == 130
    assert "10 lines = 10 records + 0 rejects" in err
    assert "Traceback" not in err


def test_a_terminal_sees_a_progress_bar(tmp_path: Path) -> None:
    path = tmp_path / "large.log"
    path.write_text("level=info took=3ms\n" * 150_000)
    try:
        master, slave = pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal can be made here: {error}")
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, "parse", str(path), "--to", str(tmp_path / "out")],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(slave)
    seen = b""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if select.select([master], [], [], 0.1)[0]:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            if not piece:
                break
            seen += piece
    os.close(master)
    assert process.wait(PATIENCE) == 0
    assert b"parsing" in seen
    assert b"%" in seen
    assert b"150,000 lines = 150,000 records" in seen
    assert (tmp_path / "out").read_bytes().count(b"\n") == 150_000
