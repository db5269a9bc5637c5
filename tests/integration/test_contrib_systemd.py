"""sd_notify against a real datagram socket."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from hastack.contrib import systemd
from hastack.health import Health
from hastack.lifecycle import Lifecycle
from hastack.testing import ManualClock


@pytest.fixture(params=["path", "abstract"])
def supervisor(request, tmp_path, monkeypatch):
    """What systemd would read."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    name = f"@hastack-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(5.0)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield sock


def read_all(sock):
    sock.setblocking(False)
    messages = []
    try:
        while True:
            messages.append(sock.recv(4096).decode().splitlines())
    except BlockingIOError:
        return messages
    finally:
        sock.settimeout(5.0)


def test_a_whole_life_is_told(supervisor):
    life = Lifecycle("orders", lame_duck=0.0, drain=1.0, stop=0.5)
    systemd.follow(life)
    with life:
        assert supervisor.recv(4096) == b"READY=1\nSTATUS=serving"
    messages = read_all(supervisor)
    assert messages[0] == ["STATUS=lame_duck", "STOPPING=1", "EXTEND_TIMEOUT_USEC=1500000"]
    assert messages[1:] == [["STATUS=draining"], ["STATUS=stopping"]]


def test_the_watchdog_is_fed_while_the_service_is_alive(supervisor, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    clock = ManualClock(autojump=None)
    health = Health(clock=clock)
    worker = health.heartbeat("worker", max_age=5.0)
    life = Lifecycle("orders", lame_duck=0.0)
    end = systemd.follow(life, health=health, clock=clock)
    life.start()
    assert supervisor.recv(4096).startswith(b"READY=1")
    assert supervisor.recv(4096) == b"WATCHDOG=1"
    clock.advance(4.0)  # twice per interval
    assert read_all(supervisor) == [["WATCHDOG=1"], ["WATCHDOG=1"]]
    clock.advance(4.0)  # the worker is silent for longer than 5 s from 6 s on
    assert read_all(supervisor) == []
    worker.beat()
    clock.advance(2.0)
    assert read_all(supervisor) == [["WATCHDOG=1"]]
    life.shutdown()
    assert life.wait(10.0).ok
    read_all(supervisor)
    worker.beat()
    clock.advance(10.0)
    assert read_all(supervisor) == []
    end()


def test_the_watchdog_of_another_process_is_not_ours(monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert systemd.watchdog_interval() is None
    monkeypatch.delenv("WATCHDOG_PID")
    assert systemd.watchdog_interval() == 4.0
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    assert systemd.watchdog_interval() is None


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "vsock:2:1"])
def test_without_a_supervisor_nothing_happens(address, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert systemd.notify("READY=1") is False


def test_a_supervisor_that_does_not_read_never_blocks(supervisor):
    sent = [systemd.notify("STATUS=" + "x" * 1000) for _ in range(2000)]
    assert sent[0] is True
    assert sent[-1] is False


def test_following_can_end(supervisor):
    life = Lifecycle("orders", lame_duck=0.0)
    systemd.follow(life)()
    with life:
        pass
    assert read_all(supervisor) == []
