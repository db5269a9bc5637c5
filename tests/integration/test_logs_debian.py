"""Logs of a real Debian machine, nginx and PostgreSQL: typed, without any configuration."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hastack.observe import logs

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))[-1:]
LIMIT = 30.0  # seconds; only ends what hangs


def parsed(data):
    """As a user would do it: cut, fold, parse. What is rejected are empty lines at most."""
    splitter = logs.Lines()
    lines = [*splitter.feed(data), *splitter.close()]
    folder = logs.Folder()
    entries = [entry for line in lines for entry in folder.push(line)] + folder.flush()
    batch = logs.Parser().parse_lines(entries)
    assert len(entries) + folder.folded == len(lines)
    assert len(batch.records) + len(batch.rejects) == len(entries)
    assert [reject for reject in batch.rejects if reject.reason != "empty"] == []
    return batch


def names(batch):
    return {each.name for each in batch.formats}


@contextlib.contextmanager
def unprivileged():
    """A directory and the arguments for a process that is nobody, also when the tests are root."""
    directory = Path(tempfile.mkdtemp(prefix="hastack-logs-"))
    options = {}
    if os.geteuid() == 0:
        os.chown(directory, 65534, 65534)
        options = {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        yield directory, options
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command, options, log):
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(ready, process):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and process.poll() is None:
        if ready():
            return
        time.sleep(0.05)
    raise AssertionError("the server did not start")


SYSTEM = {
    "/var/log/dpkg.log": ("dpkg", {"time": datetime, "action": str}),
    "/var/log/apt/history.log": ("apt.history", {"start_date": datetime, "commandline": str}),
    "/var/log/alternatives.log": ("alternatives", {"time": datetime}),
}


@pytest.mark.parametrize("path", SYSTEM)
def test_logs_of_the_machine(path):
    found = Path(path)
    older = sorted(found.parent.glob(f"{found.name}.*gz"))
    if not found.exists() and not older:
        pytest.skip(f"there is no {path}")
    data = found.read_bytes() if found.exists() else b""
    data += b"".join(gzip.decompress(each.read_bytes()) for each in older[:3])
    batch = parsed(data)
    name, types = SYSTEM[path]
    assert names(batch) <= {name}
    for record in batch.records:
        for field, kind in types.items():
            assert isinstance(record[field], kind), record
    if name == "apt.history":
        packages = [
            package
            for record in batch.records
            for key in ("install", "upgrade", "remove", "purge")
            for package in record[key] or ()
        ]
        assert all(each["package"] and each["version"] for each in packages)


def journal_by_hand():
    """Two entries as systemd's "Journal Export Formats" says, one with a field that is binary."""
    message = b"two\nlines\n\nand \xff"
    head = b"__CURSOR=s=1;i=%d\n__REALTIME_TIMESTAMP=1791640536000250\nPRIORITY=6\n_PID=42\n"
    binary = b"MESSAGE\n" + struct.pack("<Q", len(message)) + message + b"\n"
    return (head % 1) + binary + b"\n" + (head % 2) + b"MESSAGE=hello\n_UID=0\n\n"


def test_the_journal():
    batch = parsed(journal_by_hand())
    assert names(batch) == {"journal.export"}
    first, second = batch.records
    assert first["time"] == datetime(2026, 10, 10, 13, 55, 36, 250, UTC)
    assert first["message"] == "two\nlines\n\nand \ufffd"
    assert (second["message"], second["_UID"], second["severity"]) == ("hello", 0, 6)
    journalctl = shutil.which("journalctl")
    if journalctl is not None:
        command = [journalctl, "--no-pager", "--quiet", "-o", "export", "-n", "100"]
        done = subprocess.run(command, capture_output=True, timeout=LIMIT, check=False)
        batch = parsed(done.stdout)
        assert names(batch) <= {"journal.export"}
        assert all(isinstance(record["time"], datetime) for record in batch.records)


CONFIG = """
daemon off; pid {where}/pid; error_log {where}/error.log info;
events {{ worker_connections 64; }}
http {{
  access_log {where}/access.log combined;
  client_body_temp_path {where}/1; proxy_temp_path {where}/2; fastcgi_temp_path {where}/3;
  uwsgi_temp_path {where}/4; scgi_temp_path {where}/5;
  server {{ listen 127.0.0.1:{port}; root {where}/root;
    location /down {{ proxy_pass http://127.0.0.1:1; }} }}
}}
"""


def test_nginx():
    if NGINX is None:
        pytest.skip("nginx is not installed")
    with unprivileged() as (where, options):
        port = free_port()
        (where / "root").mkdir()
        (where / "root/index.html").write_text("hello")
        (where / "nginx.conf").write_text(CONFIG.format(where=where, port=port))
        command = [NGINX, "-c", where / "nginx.conf", "-e", where / "error.log"]

        def get(path, **headers):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(request, timeout=10) as answer,
            ):
                return answer.status
            return None

        with running(command, options, where / "out") as process:
            until(lambda: get("/"), process)
            get("/missing?a=%22", Referer="http://x/\u00e9".encode().decode("latin-1"))
            get("/down", **{"User-Agent": 'quote " and \\ backslash'})
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
                raw.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
                raw.recv(1000)
        access = parsed((where / "access.log").read_bytes())
        errors = parsed((where / "error.log").read_bytes())
    assert names(access) == {"nginx.combined"}
    by_path = {record["path"]: record for record in access.records}
    now = datetime.now(UTC)
    assert all(now - record["time"] < timedelta(hours=1) for record in access.records)
    assert (by_path["/"]["status"], by_path["/"]["size"]) == (200, 5)
    assert by_path["/missing?a=%22"]["status"] == 404
    assert by_path["/missing?a=%22"]["referer"] == "http://x/\u00e9"
    assert (by_path["/down"]["status"], by_path["/down"]["client"]) == (502, "127.0.0.1")
    assert by_path["/down"]["agent"] == 'quote " and \\ backslash'
    assert by_path[None]["request"].startswith("\x16\x03\x01")
    assert names(errors) == {"nginx.error"}
    (missing,) = [
        each for each in errors.records if each["request"] == "GET /missing?a=%22 HTTP/1.1"
    ]
    assert (missing["level"], missing["client"]) == ("error", "127.0.0.1")
    assert isinstance(missing["connection"], int)
    (down,) = [each for each in errors.records if each["upstream"]]
    assert down["upstream"] == "http://127.0.0.1:1/down"


def test_postgresql():
    if not POSTGRES:
        pytest.skip("postgresql is not installed")
    binaries = POSTGRES[0].parent
    with unprivileged() as (where, options):
        port, data = free_port(), where / "data"
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC", "HOME": str(where)}
        options = {**options, "env": environment, "cwd": where}
        make = [binaries / "initdb", "-D", data, "-A", "trust", "-U", "ada", "--no-sync"]
        subprocess.run(
            [*make, "-E", "UTF8"], check=True, capture_output=True, timeout=60, **options
        )
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": where,
            "fsync": "off",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            "log_timezone": "UTC",
            "log_min_duration_statement": 0,
            "shared_buffers": "1MB",
            "max_connections": 10,
        }
        command = [binaries / "postgres", "-D", data]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        psql = [binaries / "psql", "-h", "127.0.0.1", "-p", str(port), "-U", "ada", "postgres"]

        def ask(sql):
            done = subprocess.run(
                [*psql, "-c", sql], capture_output=True, timeout=LIMIT, check=False, **options
            )
            return done.returncode == 0

        with running(command, options, where / "out") as process:
            until(lambda: ask("select 1"), process)
            assert ask("select 'two\nlines',\n\t'tab'")
            assert not ask("select * from nowhere")
        batch = parsed((where / "out").read_bytes())
    assert names(batch) == {"postgresql"}
    assert all(isinstance(record["time"], datetime) for record in batch.records)
    assert {"LOG", "ERROR", "STATEMENT"} <= {record["level"] for record in batch.records}
    (error,) = [record for record in batch.records if record["level"] == "ERROR"]
    assert error["message"].startswith('relation "nowhere" does not exist')
    assert (error["user"], error["database"]) == ("ada", "postgres")
    took = [record for record in batch.records if record["duration"] is not None]
    assert all(0 <= record["duration"] < LIMIT for record in took)
    two = [record for record in took if record["statement"].startswith("select 'two")]
    assert two
    assert "tab" in two[0]["continuation"]
    assert any("ready to accept" in str(record["message"]) for record in batch.records)
