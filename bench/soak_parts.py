"""What runs in the soak: a service with everything on, its load, and the faults."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from etcd_servers import Etcd, binaries
from whole_stack import Handler, listening

from hastack import config, context, discovery, ebpf, observe, ratelimit, wasm
from hastack.contrib import asgi, grpc_aio
from hastack.contrib.grpc_server import AioGrpcServer
from hastack.contrib.uvicorn import UvicornServer
from hastack.errors import HastackError
from hastack.lifecycle import Lifecycle
from hastack.observe import logs

HERE = Path(__file__).resolve().parent

log = logging.getLogger("soak")

TOML = """
[ratelimit.api]
rate = "{rate}"
max_wait = "context"

[wasm.plugins.policy]
path = "{module}"
unsigned = true
deadline = "50ms"

[logs]
patterns = {{ shop = "{pattern}" }}

[observe]
service = "soak"
metrics_every = "1s"
backends = {{ main = {{ endpoint = "{collector}", timeout = "2s" }} }}
queue = {{ linger = "50ms", max_units = 20000, when_full = "drop-oldest" }}
"""

MODULE = """(module (memory (export "memory") 1)
  (func (export "v") (result i32) (i32.const {number}))
  (func (export "spin") (loop (br 0)))
  (func (export "on_http_request") (param i32 i32 i32) (result i32) (i32.const 1)))"""


def collect() -> None:
    """A collector as a process: takes everything, keeps nothing."""

    class Sink(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    print(server.server_port, flush=True)
    server.serve_forever()


class Collector:
    def __init__(self) -> None:
        command = [sys.executable, str(HERE / "soak.py"), "--collector"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{self.process.stdout.readline().strip()}"

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Service:
    """Everything on; ``leaks`` names what it is to lose with each request, to test the soak."""

    def __init__(self, folder: Path, leaks: tuple[str, ...] = ()) -> None:
        self.folder, self.leaks, self.lost = folder, leaks, []
        self.collector = Collector()
        self.etcd = Etcd(folder / "etcd").start() if binaries() else None
        for number in (1, 2):
            path = folder / f"{number}.wasm"
            path.write_bytes(wasm.wat(MODULE.format(number=number)))
        self.toml, self.turn = folder / "hastack.toml", itertools.count(1)
        self.configure()
        self.watched = config.watch(self.toml, env=None, period=0.2)
        self.life = Lifecycle("soak", lame_duck=0.0, drain=5.0, stop=5.0)
        self.installed = observe.install(self.watched.current)
        self.installed.follow(self.watched)
        self.tracer = self.installed.tracer_provider.get_tracer("soak")
        self.seen = self.installed.metrics.meter("soak").counter("soak.requests")
        url = f"etcd://{self.etcd.endpoint}" if self.etcd else "memory://soak"
        self.registry = discovery.connect(url, timeout=1.0)
        self.limit = ratelimit.live(self.watched, "api")
        self.breaker = ratelimit.CircuitBreaker(
            window=2.0, min_calls=20, open_for=0.3, open_max=0.5, name="store"
        )
        self.bulkhead = ratelimit.AdaptiveLimit(initial=20, max_limit=100, name="work")
        self.plugin = wasm.live(self.watched, "policy", isolate_compiler=False)
        self.parser = logs.LiveParser(self.watched)
        self.log_file = folder / "app.log"
        self.log_file.touch()
        self.engine = logs.Engine(logs.Follow(self.log_file, poll=0.05), parser=self.parser)
        self.object = self._object(folder)
        self.sock = listening()
        self.outcomes: dict[str, int] = {}

    def _object(self, folder: Path):
        try:
            source = HERE.parent / "tests/support/bpf/basics.bpf.c"
            built = ebpf.build(source, output=folder / "basics.bpf.o")
            return ebpf.load(built, programs=["burst"])
        except (HastackError, OSError) as error:
            print(f"without eBPF: {error}")
            return None

    def configure(self, *, bad: bool = False) -> None:
        """The next configuration, or one with a mistake."""
        number = next(self.turn) % 2
        text = TOML.format(
            rate="nonsense" if bad else ("2000/s", "3000/s")[number],
            module=self.folder / f"{number + 1}.wasm",
            pattern=("order", "sale")[number] + " %{INT:code:int}",
            collector=self.collector.url,
        )
        fresh = self.toml.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.toml)

    def add_parts(self) -> tuple[str, int]:
        life = self.life
        life.add(self.installed)
        life.add("registry", stop=self.registry.close, depends_on=["observe"])
        life.add("policy", stop=self.plugin.close, depends_on=["observe"])
        life.add_worker("logs", self.read_logs, depends_on=["observe"])
        life.add("log files", drain=self.engine.drain, depends_on=["logs"])
        if self.object is not None:
            self.ring = self.object.ring("events")
            life.add_worker("events", self.read_events, depends_on=["observe"])
            life.add("probes", drain=self.object.close, depends_on=["events"])
        server = grpc_aio.aio.server(interceptors=[grpc_aio.ServerContext(root=life.context)])
        server.add_generic_rpc_handlers((Handler(self.rpc),))
        port = server.add_insecure_port("127.0.0.1:0")
        self.channel = grpc_aio.aio.insecure_channel(
            f"127.0.0.1:{port}", interceptors=grpc_aio.client_interceptors()
        )
        self.call = self.channel.unary_unary("/suite/Work")
        life.add(AioGrpcServer(server, depends_on=["policy", "registry"]))
        inner = asgi.PolicyMiddleware(self.web, policy=self.plugin)
        app = asgi.ContextMiddleware(asgi.GuardMiddleware(inner), lifecycle=life, max_timeout=2.0)
        http = UvicornServer(
            app, lifecycle=life, sockets=[self.sock], depends_on=["grpc"], log_level="critical"
        )
        life.add(http)
        return self.sock.getsockname()

    async def web(self, scope, receive, send) -> None:
        self.seen.add(1)
        self._leak()
        with self.tracer.start_as_current_span("request"):
            await self.limit.acquire_async()
            answer = await self.call(scope["path"].encode())
            log.warning("served %s", scope["path"])
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def rpc(self, request: bytes, _) -> bytes:
        async with self.bulkhead:
            if request == b"/spin":
                with contextlib.suppress(HastackError):
                    await self.plugin.call_async("spin")
            elif request == b"/flush":
                with contextlib.suppress(HastackError):
                    await asyncio.to_thread(self.installed.force_flush, 0.2)
            else:
                async with self.breaker:
                    await self.registry.store.get("key", timeout=0.5)
        return b"done"

    def read_logs(self) -> None:
        for _ in self.engine:
            pass

    def read_events(self) -> None:
        for _ in self.ring:
            pass

    def _leak(self) -> None:
        if "memory" in self.leaks:
            self.lost.append(bytearray(65536))
        if "descriptors" in self.leaks:
            self.lost.append(os.dup(0))
        if "threads" in self.leaks and random.random() < 0.5:
            stop = threading.Event()
            threading.Thread(target=stop.wait, daemon=True).start()
            self.lost.append(stop)
        if "tasks" in self.leaks:
            self.lost.append(asyncio.get_running_loop().create_task(asyncio.sleep(1e5)))
        if "timers" in self.leaks:
            ctx = context.timeout(1e5, parent=context.background())
            ctx.after_func(lambda: None)
            self.lost.append(ctx)

    def end(self) -> None:
        self.watched.stop()
        self.parser.close()
        self.sock.close()
        self.collector.end()
        if self.etcd is not None:
            self.etcd.resume()
            self.etcd.discard()
        for each in self.lost:
            if type(each) is int:
                os.close(each)
            elif isinstance(each, threading.Event):
                each.set()
            elif isinstance(each, asyncio.Task):
                each.cancel()
        self.lost.clear()


async def client(service: Service, address, pause: float) -> None:
    """One after the other: most wait for the answer, some leave before it, some are in a hurry."""
    while True:
        path = random.choices(["/key", "/spin", "/flush"], [90, 7, 3])[0]
        hurry, leave = random.random() < 0.1, random.random() < 0.05
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        if hurry:
            head += "X-Request-Timeout-Ms: 20\r\n"
        outcome = "left"
        try:
            reader, writer = await asyncio.open_connection(*address)
        except OSError:
            outcome = "refused"
        else:
            try:
                writer.write(head.encode() + b"\r\n")
                if not leave:
                    # Not wait_for: before Python 3.12 it may swallow that the task is cancelled.
                    async with asyncio.timeout(10.0):
                        answer = await reader.read()
                    outcome = answer[9:12].decode() or "cut"
            except (OSError, TimeoutError) as error:
                outcome = type(error).__name__
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        service.outcomes[outcome] = service.outcomes.get(outcome, 0) + 1
        await asyncio.sleep(pause)


async def background(service: Service) -> None:
    """Log lines, kernel events, and an instance that comes and goes."""
    with service.log_file.open("a") as file:
        kept = [file]
        for number in itertools.count():
            kept[0].write(f"order {number}\nsale {number}\nlevel=info n={number}\n" * 5)
            kept[0].flush()
            if not number % 100:  # rotated
                kept[0].close()
                service.log_file.replace(service.log_file.with_suffix(".1"))
                kept[0] = service.log_file.open("a")
            if service.object is not None and not service.object.closed:
                service.object.burst.test_run((20).to_bytes(2, "little") + bytes(62))
            if not number % 40:
                name = f"10.0.0.{number % 200}:80"
                with contextlib.suppress(HastackError):
                    async with service.registry.register("soak", name, grace=0.0, wait=False):
                        await asyncio.sleep(0.05)
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                kept[0].close()
                raise


def faults(service: Service):
    """Name and work of one fault after the other, for ever."""

    async def etcd_stops() -> None:
        service.etcd.pause()
        await asyncio.sleep(1.0)
        service.etcd.resume()

    async def collector_stops() -> None:
        service.collector.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5)
        service.collector.process.send_signal(signal.SIGCONT)

    async def config_changes() -> None:
        service.configure()
        await asyncio.sleep(0.6)

    async def config_breaks() -> None:
        service.configure(bad=True)
        await asyncio.sleep(0.6)
        service.configure()

    async def bad_plugin() -> None:
        with contextlib.suppress(HastackError):
            await asyncio.to_thread(service.plugin.offer, b"\0asm\x01\0\0\0garbage")

    async def burst() -> None:
        address = service.sock.getsockname()
        crowd = [asyncio.create_task(client(service, address, 0.0)) for _ in range(30)]
        await asyncio.sleep(0.7)
        for each in crowd:
            each.cancel()
        await asyncio.wait(crowd)

    known = [config_changes, collector_stops, config_breaks, bad_plugin, burst]
    if service.etcd is not None:
        known.insert(0, etcd_stops)
    for each in itertools.cycle(known):
        yield each.__name__.replace("_", " "), each


def kernel_objects() -> int:
    """Programs, maps and links of this machine; 0 where the kernel says nothing."""
    from hastack.ebpf import _kernel

    try:
        return sum(len(list(_kernel.ids(kind))) for kind in ("program", "map", "link"))
    except (HastackError, OSError):
        return 0
