"""Everything of hastack in one process, for tests and for the soak: one service, real parts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
from grpc import aio

from hastack import context, wasm
from hastack._core._clock import SYSTEM_CLOCK
from hastack.contrib import grpc as grpc_threads
from hastack.contrib import grpc_aio

POLICY = """(module
  (memory (export "memory") 1)
  (func (export "on_http_request") (param i32 i32 i32) (result i32)
    (i32.const 1))
  (func (export "spin") (loop (br 0))))"""

LONG = 40.0  # seconds: what hangs in a test would hang for so long, if the deadline did not end it


def policy(**options):
    """A plugin that lets everything pass, and whose ``spin`` never ends by itself."""
    options.setdefault("limits", wasm.Limits(deadline=LONG))
    return wasm.load(
        wasm.wat(POLICY), name="policy", trust=wasm.Unsigned(), isolate_compiler=False, **options
    )


def listening():
    """A socket on loopback, for a server to take over."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


class Handler(grpc.GenericRpcHandler):
    """Serves /suite/Work: the request names what is to be done."""

    def __init__(self, work):
        self._behavior = grpc.unary_unary_rpc_method_handler(work)

    def service(self, details):
        return self._behavior if details.method == "/suite/Work" else None


@contextlib.asynccontextmanager
async def aio_service(work, **options):
    """A gRPC server on this loop, and a channel that carries the context to it."""
    server = aio.server(interceptors=[grpc_aio.ServerContext(**options)])
    server.add_generic_rpc_handlers((Handler(work),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    address = f"127.0.0.1:{port}"
    try:
        async with aio.insecure_channel(
            address, interceptors=grpc_aio.client_interceptors()
        ) as channel:
            yield channel.unary_unary("/suite/Work")
    finally:
        await server.stop(1.0)


@contextlib.contextmanager
def thread_service(work, **options):
    """The same with threads."""
    with futures.ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, interceptors=[grpc_threads.ServerContext(**options)])
        server.add_generic_rpc_handlers((Handler(work),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc_threads.context_channel(grpc.insecure_channel(f"127.0.0.1:{port}")) as channel:
            try:
                yield channel.unary_unary("/suite/Work")
            finally:
                server.stop(1.0).wait(20.0)


def ask(address, path, *, milliseconds=None, timeout=30.0):
    """Status and body of one GET, and the seconds it took."""
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    if milliseconds is not None:
        head += f"X-Request-Timeout-Ms: {milliseconds}\r\n"
    began = time.monotonic()
    with socket.create_connection(address, timeout=timeout) as sock:
        sock.settimeout(timeout)
        sock.sendall(head.encode() + b"\r\n")
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    first, _, rest = answer.partition(b"\r\n")
    return int(first.split()[1]), rest.partition(b"\r\n\r\n")[2], time.monotonic() - began


def ask_and_leave(address, path, *, after):
    """Send a GET and close the connection once ``after()`` says that it is under way."""
    with socket.create_connection(address, timeout=10.0) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        after()


def running():
    """What there is that could be left behind: threads by name, timers, descriptors, tasks."""
    gc.collect()
    with SYSTEM_CLOCK._lock:
        timers = sum(1 for _, _, cell in SYSTEM_CLOCK._heap if cell)
    try:
        tasks = len(asyncio.all_tasks())
    except RuntimeError:
        tasks = 0
    return {
        # An executor's threads stay for the next one; what runs on them is counted by whoever asks.
        "threads": sum(1 for each in threading.enumerate() if "asyncio_" not in each.name),
        "timers": timers,
        "tasks": tasks,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "callbacks": _callbacks(),
    }


def _callbacks():
    """Contexts that somebody still wants to hear of."""
    return sum(
        1
        for each in gc.get_objects()
        if type(each) is context.Context
        and each._live is not None
        and (each._live.callbacks or each._live.timer is not None)
    )


def _more(before, busy):
    now = running()
    more = {name: (before[name], now[name]) for name in before if now[name] > before[name]}
    if busy is not None and busy():
        more["busy"] = (0, busy())
    return more


def settles(before, busy=None, *, seconds=15.0):
    """What is more than ``before`` after a while: empty when nothing is left running."""
    end = time.monotonic() + seconds
    while (more := _more(before, busy)) and time.monotonic() < end:
        time.sleep(0.05)
    return more


async def settles_async(before, busy=None, *, seconds=15.0):
    """The same, on a loop."""
    end = time.monotonic() + seconds
    while (more := _more(before, busy)) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return more
