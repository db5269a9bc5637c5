"""The example runs and shows what happens meanwhile."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from bpf_objects import cgroup, has_clang, needs  # noqa: F401  # cgroup is a fixture

HERE = Path(__file__).parent


def start(name: str, *arguments: str) -> subprocess.Popen[str]:
    source = str(HERE.parents[1] / "src")
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, str(HERE / name), *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=50)
    assert not process.returncode, err
    return out


def test_connections_are_timed() -> None:
    needs("program:raw_tracepoint", "btf")
    has_clang()
    process = start("connect_latency.py", "--seconds", "1.5")
    assert "PROCESS" in process.stdout.readline()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        for _ in range(3):
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
    out = ends(process)
    lines = re.findall(rf"^\S+ +{os.getpid()} +{port} +(\d+)$", out, re.MULTILINE)
    assert len(lines) == 3
    assert f"({os.getpid()}): 3 connections, median" in out
    assert re.search(r"\d+ events, 0 lost", out)


def test_bytes_are_counted_by_cgroup(cgroup: Path) -> None:  # noqa: F811
    needs("program:cgroup_skb")
    has_clang()
    process = start("egress.py", "--cgroup", str(cgroup), "--seconds", "2")
    code = f"""
import socket, time
open({str(cgroup / "cgroup.procs")!r}, "w").write("0")
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ends = time.monotonic() + 1.5
while time.monotonic() < ends:
    s.sendto(bytes(1000), ("127.0.0.1", 9))
    time.sleep(0.01)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)
    out = ends(process)
    assert re.search(rf"[\d,]+ B/s +[\d,]{{4,}} B  {cgroup}", out)


def test_system_calls_are_counted() -> None:
    needs("program:raw_tracepoint")
    has_clang()
    process = start("syscalls.py", "--pid", str(os.getpid()), "--seconds", "1")
    while process.poll() is None:
        os.getppid()
    out = ends(process)
    assert re.search(r"[\d,]+  (getppid|number \d+)", out)
