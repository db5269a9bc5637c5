"""The syslog listener over loopback: many senders, slow ones, hostile ones, and its bounds."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from two_line_parser import TwoLineParser

from hastack import context, events
from hastack.errors import Cancelled, ClosedError, InvalidArgument
from hastack.observe import logs
from hastack.observe.logs import _engine_events

PATIENCE = 30.0  # only ends what hangs


class Running:
    """An engine on a listener, on a thread."""

    def __init__(self, listener: logs.SyslogListener, *, slow: threading.Event | None = None):
        self.listener = listener
        self.engine = logs.Engine(listener, parser=TwoLineParser())
        self.records: list[dict[str, Any]] = []
        self.rejects: list[Any] = []
        self.may_go = slow
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.engine.run(self._take)

    def _take(self, batch: logs.Parsed) -> None:
        if self.may_go is not None:
            self.may_go.wait(PATIENCE)
        self.records += batch.records
        self.rejects += batch.rejects

    @property
    def count(self) -> int:
        return len(self.records) + len(self.rejects)

    def wait(self, condition: Any) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until, self.engine.account()
            assert self.thread.is_alive()
            time.sleep(0.005)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.tcp_address, timeout=PATIENCE)

    def end(self) -> logs.Account:
        self.engine.stop()
        if self.may_go is not None:
            self.may_go.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.engine.account()


@pytest.fixture
def start() -> Iterator[Any]:
    running: list[Running] = []

    def begin(slow: threading.Event | None = None, **options: Any) -> Running:
        one = Running(logs.SyslogListener(**options), slow=slow)
        running.append(one)
        return one

    yield begin
    for one in running:
        one.end()


def test_datagrams_and_both_framings(start: Any) -> None:
    one = start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, one.connect() as stream:
        sender.sendto(b"udp=1\n", one.listener.udp_address)
        stream.sendall(b"tcp=1\n5 tcp=28 multi\nxx")
        one.wait(lambda: one.count == 4)
        stream.sendall(b"last=3")
    one.wait(lambda: one.count == 5)
    account = one.end()
    assert sorted(r["key"] for r in one.records) == ["last", "tcp", "tcp", "udp"]
    assert [reject.line for reject in one.rejects] == [b"multi\nxx"]
    assert account.lines == 5
    assert account.complete


def test_many_senders_at_once_and_nothing_is_lost_over_tcp(start: Any) -> None:
    one = start(max_queue=20_000, max_message=100)
    senders = 20

    def send(number: int) -> None:
        with one.connect() as stream:
            for n in range(500):
                message = f"s{number}={n}"
                stream.sendall(
                    f"{len(message)} {message}".encode() if n % 2 else f"{message}\n".encode()
                )

    threads = [threading.Thread(target=send, args=(n,)) for n in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    one.wait(lambda: one.count == senders * 500)
    for number in range(senders):
        mine = [r["value"] for r in one.records if r["key"] == f"s{number}"]
        assert mine == list(range(500))  # in the order of each sender
    assert one.end().complete


def test_a_tcp_sender_waits_while_the_queue_is_full(start: Any) -> None:
    go = threading.Event()
    one = start(slow=go, max_queue=50_000)
    sent = 0
    line = b"flood" * 200 + b"=1\n"

    def flood() -> None:
        nonlocal sent
        with one.connect() as stream:
            for _ in range(400):
                stream.sendall(line * 40)
                sent += 40

    thread = threading.Thread(target=flood)
    thread.start()
    one.wait(lambda: one.listener._paused)
    time.sleep(0.3)
    stuck = sent
    assert one.listener._queued < 50_000 + (1 << 17)  # one read more than its bound
    assert stuck < 400 * 40
    go.set()
    thread.join(PATIENCE)
    one.wait(lambda: one.count == 400 * 40)
    assert one.end().complete


def test_datagrams_that_find_no_room_are_counted(start: Any) -> None:
    go = threading.Event()
    with events.record(_engine_events.LinesDropped) as seen:
        one = start(slow=go, max_queue=2000, tcp=False)
        assert one.listener.tcp_address is None
        total = 20_000
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for n in range(total):
                sender.sendto(b"flood=%d" % n, one.listener.udp_address)
            until = time.monotonic() + PATIENCE
            go.set()
            # What the kernel dropped it tells with the next datagram that it did not drop.
            while time.monotonic() < until:
                sender.sendto(b"end=1", one.listener.udp_address)
                total += 1
                time.sleep(0.05)
                if any(record["key"] == "end" for record in one.records):
                    break
        account = one.end()
    assert account.lines + sum(account.dropped.values()) == total
    assert account.dropped["udp_queue_full"] > 0
    assert set(account.dropped) <= {"udp_queue_full", "udp_kernel"}
    assert not account.complete
    assert {event.reason for event in seen} == set(account.dropped)


def test_long_messages_are_cut(start: Any) -> None:
    one = start(max_message=10)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, one.connect() as stream:
        sender.sendto(b"x" * 50, one.listener.udp_address)
        stream.sendall(b"a" * 100_000 + b"\nb=1\n" + b"100000 " + b"c" * 100_000 + b"d=2\n")
        one.wait(lambda: one.count == 5)
    account = one.end()
    assert {r["key"]: r["value"] for r in one.records if "key" in r} == {"b": 1, "d": 2}
    assert {r["text"] for r in one.records if "text" in r} == {"x" * 10, "a" * 10, "c" * 10}
    assert account.cut_lines == 3
    assert account.cut_bytes == 40 + 2 * 99_990


def test_hostile_connections_are_closed_and_counted(start: Any) -> None:
    one = start(max_connections=3, frame_timeout=0.2, idle_timeout=1.0, framing="octet")
    with one.connect() as wrong, one.connect() as slow, one.connect() as idle:
        one.wait(lambda: one.listener.connections == 3)
        with one.connect() as refused:
            assert refused.recv(1) == b""
        wrong.sendall(b"<1>no count\n")
        slow.sendall(b"500 only a beg")
        for each in (wrong, slow, idle):
            each.settimeout(PATIENCE)
            try:
                assert each.recv(1) == b""
            except ConnectionResetError:
                pass  # what was sent and not read makes it a reset
    account = one.end()
    assert account.dropped == {
        "connection_refused": 1,
        "framing": 1,
        "frame_timeout": 1,
        "idle_timeout": 1,
        "torn": 2,
    }
    assert account.balanced


def test_a_sender_that_resets_is_no_trouble(start: Any) -> None:
    one = start()
    for _ in range(20):
        stream = one.connect()
        stream.sendall(b"a=1\nhalf")
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.close()
    with one.connect() as stream:
        stream.sendall(b"b=1\n")
        one.wait(lambda: any(r.get("key") == "b" for r in one.records))
    one.wait(lambda: one.listener.connections == 0)
    assert one.end().balanced


def test_what_arrived_before_the_stop_is_delivered() -> None:
    listener = logs.SyslogListener()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.create_connection(listener.tcp_address) as stream,
    ):
        sender.sendto(b"u=1", listener.udp_address)
        stream.sendall(b"t=1\n")
        engine = logs.Engine(listener, parser=TwoLineParser())
        assert next(engine).lines
        for n in range(100):
            sender.sendto(b"u=%d" % n, listener.udp_address)
        engine.stop()
        rest = sum(batch.lines for batch in engine)
    assert rest >= 100
    assert engine.account().complete
    with pytest.raises(ClosedError):
        next(logs.Engine(listener, parser=TwoLineParser()))


def test_a_cancelled_run_counts_what_it_leaves() -> None:
    listener = logs.SyslogListener(tcp=False)
    engine = logs.Engine(
        listener, parser=TwoLineParser(), batching=logs.Batching(lines=10, linger=0)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, context.with_cancel() as ctx:
        for n in range(1000):
            sender.sendto(b"u=%d" % n, listener.udp_address)
        seen = next(engine).lines
        ctx.cancel()
        with pytest.raises(Cancelled):
            for batch in engine:
                seen += batch.lines
    account = engine.account()
    assert account.lines == seen
    received = account.lines + account.undelivered + account.dropped.get("cancelled", 0)
    assert 0 < received <= 1000


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_holds_no_port(start: Any) -> None:
    one = start()
    port = one.listener.tcp_address[1]
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)  # lives until the parent says so
        os._exit(0)
    os.close(reading)
    try:
        with one.connect() as stream:
            stream.sendall(b"a=1\n")
            one.wait(lambda: one.count == 1)
        one.end()
        again = logs.SyslogListener(port=port)
        again.close()
    finally:
        os.close(writing)
        os.waitpid(child, 0)


def test_addresses_and_options() -> None:
    with pytest.raises(InvalidArgument, match="framing"):
        logs.SyslogListener(framing="what")
    with pytest.raises(InvalidArgument, match="udp"):
        logs.SyslogListener(udp=False, tcp=False)
    with pytest.raises(OSError, match=r"\w"):
        logs.SyslogListener("192.0.2.1")
    listener = logs.SyslogListener()
    assert listener.udp_address == listener.tcp_address
    with pytest.raises(OSError, match=r"\w"):
        logs.SyslogListener(port=listener.tcp_address[1])
    listener.close()
    listener.close()
