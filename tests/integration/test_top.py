"""``hastack top`` against a real dashboard, in a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

import pytest
from asgi_servers import TOKEN, served

pytest.importorskip("click")
pytest.importorskip("rich")

from hastack.cli.top._fetch import Source, Unreachable, Unusable
from hastack.contrib.dashboard import Dashboard
from hastack.ratelimit import CircuitBreaker, TokenBucket

PATIENCE = 40.0


def command(*arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "hastack", "top", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "COLUMNS": "140", "PYTHONIOENCODING": "utf-8", **variables},
    )


# The terminal becomes the command's own, so that Ctrl-C comes through it.
_OWNING = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Terminal:
    """A command on a pseudo-terminal; what it has shown since the last look."""

    def __init__(self, *arguments, columns=140, lines=30):
        self.master, slave = pty.openpty()
        self.resize(columns, lines)
        variables = {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
        kept = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR"}}
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OWNING, "-m", "hastack", "top", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=kept | variables,
            start_new_session=True,
        )

    def resize(self, columns, lines):
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def until(self, pattern):
        text = ""
        end = time.monotonic() + PATIENCE
        while not re.search(pattern, text):
            assert time.monotonic() < end, f"{pattern} was never shown: {text[-2000:]!r}"
            ready, _, _ = select.select([self.master], [], [], 0.2)
            if ready:
                text += os.read(self.master, 65536).decode("utf-8", "replace")
        return text

    def type(self, keys):
        os.write(self.master, keys.encode())

    def end(self):
        # What it still writes must be read, or it would wait for that for ever.
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < end
            ready, _, _ = select.select([self.master], [], [], 0.1)
            if ready:
                os.read(self.master, 65536)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()
        os.close(self.slave)
        os.close(self.master)


def test_once_as_a_table_and_as_json():
    hostile = "api\x1b[2J\x9b1m"
    bucket = TokenBucket("5/s", name=hostile)
    breaker = CircuitBreaker(name="[bold]db[/bold]", min_calls=1)
    with Dashboard(bucket, breaker, service="shop", period=0.05) as app, served(app) as port:
        breaker.try_acquire().failure()
        bucket.try_acquire()
        done = command(f"http://127.0.0.1:{port}", "--once")
        assert done.returncode == 0, done.stderr
        assert "shop" in done.stdout.splitlines()[0]
        assert "[bold]db[/bold]" in done.stdout  # no markup of ours
        assert "■ open" in done.stdout
        assert "api·[2J·1m" in done.stdout
        assert "\x1b" not in done.stdout
        assert "\x9b" not in done.stdout
        done = command(f"127.0.0.1:{port}/", "--json", "--count", "2", "--every", "0.1")
        shots = [json.loads(line) for line in done.stdout.splitlines()]
        assert [shot["limiters"][0]["name"] for shot in shots] == [hostile] * 2
        done = command(
            "--once", PYTHONIOENCODING="ascii", HASTACK_TOP_URL=f"http://127.0.0.1:{port}"
        )
        assert "!! open" in done.stdout
        assert done.stdout.isascii()


def test_a_token_and_addresses_that_are_no_dashboard():
    with Dashboard(token=TOKEN, period=60.0) as app, served(app) as port:
        url = f"http://127.0.0.1:{port}"
        done = command(url, "--once")
        assert (done.returncode, done.stdout) == (2, "")
        assert "wants a token" in done.stderr
        assert command(url, "--once", HASTACK_TOP_TOKEN=TOKEN).returncode == 0
        for wrong, why in [("/elsewhere", "no dashboard at this path"), ("/events/x", "no dash")]:
            with pytest.raises(Unusable, match=why):
                Source(url + wrong, token=TOKEN).fetch()
        assert Source(f"{url}/snapshot.json", token=TOKEN).url == url
    for wrong in ("ftp://x", "http://", "http://x:y", "http://[::1"):
        with pytest.raises(Unusable):
            Source(wrong)
    assert command("ftp://x").returncode == 2
    assert "say where" in command().stderr


def answering(answer):
    """An address that answers every connection with these bytes."""

    async def app(scope, receive, send):
        status, body, fields = answer
        start = {"type": "http.response.start", "status": status, "headers": fields}
        await send(start)
        await send({"type": "http.response.body", "body": body})

    async def with_lifespan(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        await app(scope, receive, send)

    return with_lifespan


@pytest.mark.parametrize(
    ("status", "body", "kind", "why"),
    [
        (200, b"<html>", Unusable, "is no dashboard"),
        (200, b"[1]", Unusable, "is no dashboard"),
        (200, b'{"version": 99}', Unusable, "version 99"),
        (503, b"", Unreachable, "answered 503"),
        (403, b"", Unusable, "answered 403"),
        (421, b"", Unusable, "hosts="),
        (302, b"", Unusable, "answered 302"),
    ],
)
def test_answers_that_are_none(status, body, kind, why):
    fields = [(b"location", b"http://127.0.0.1:9/")] if status == 302 else []
    with served(answering((status, body, fields))) as port, pytest.raises(kind, match=why):
        Source(f"http://127.0.0.1:{port}").fetch()


def test_nobody_there_and_nobody_answering():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unreachable, match="no answer in time"):
            Source(url, timeout=0.2).fetch()
    done = command(url, "--once")
    assert done.returncode == 1
    assert "nobody listens there" in done.stderr


def test_keys_sizes_and_a_clean_end():
    buckets = [TokenBucket("5/s", name=f"bucket {n:02}") for n in range(30)]
    with Dashboard(*buckets, service="shop", period=0.05) as app, served(app) as port:
        with Terminal(f"http://127.0.0.1:{port}", "--every", "0.1") as terminal:
            shown = terminal.until("sort: trouble")
            assert "bucket 00" in shown
            assert "and " in shown  # 30 do not fit into 30 lines
            assert "bucket 29" not in shown
            terminal.type("s")
            terminal.until("sort: name")
            terminal.type("5")
            terminal.until("nothing here")
            terminal.type("0")
            terminal.until("bucket 00")
            terminal.resize(100, 60)
            terminal.until("bucket 29")
            terminal.type("p")
            terminal.until("paused")
            terminal.type("q")
            assert terminal.end() == 0
            assert termios.tcgetattr(terminal.slave) == terminal.before
        with Terminal(f"http://127.0.0.1:{port}", "--every", "0.1") as terminal:
            terminal.until("sort: trouble")
            terminal.type("\x03")  # Ctrl-C, by way of the terminal
            assert terminal.end() == 0
            assert termios.tcgetattr(terminal.slave) == terminal.before


def test_the_connection_is_lost_said_so_and_comes_back():
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with contextlib.ExitStack() as stack:
        terminal = stack.enter_context(Terminal(f"http://127.0.0.1:{port}", "--every", "0.1"))
        terminal.until("no connection yet: .*nobody listens there")
        app = stack.enter_context(Dashboard(service="shop", period=0.05))
        with served(app, port=port):
            terminal.until("shop")
        terminal.until("lost .* ago: .*trying again")
        with served(app, port=port):
            terminal.until("● http")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0


def test_a_demo_needs_no_service():
    done = command("--demo", "--count", "2", "--every", "0.5")
    assert done.returncode == 0, done.stderr
    assert "Adaptive limits" in done.stdout
    assert "db pool" in done.stdout
