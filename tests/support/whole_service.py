"""A service with everything on, as a process of its own: told to end, it says how that went.

usage: whole_service.py SETTINGS    JSON: endpoint, collector, log, object, hang, and times
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

from whole_stack import Handler, listening, policy

from hastack import context, discovery, ebpf, observe, ratelimit
from hastack.contrib import asgi, grpc_aio
from hastack.contrib.grpc_server import AioGrpcServer
from hastack.contrib.uvicorn import UvicornServer
from hastack.lifecycle import Lifecycle
from hastack.observe import logs

given = json.loads(sys.argv[1])
hang = given.get("hang", "")
log = logging.getLogger("suite")


def say(what, **more):
    line = json.dumps({"what": what, "at": round(time.monotonic(), 3), **more})
    os.write(1, line.encode() + b"\n")  # in one piece: threads speak, too


def stuck(name):
    """What a part does that hangs: it listens to nobody."""
    if hang == name:
        say(f"{name} hangs")
        time.sleep(60.0)


class Service:
    def __init__(self):
        self.life = Lifecycle(
            "suite",
            lame_duck=given.get("lame_duck", 0.5),
            drain=given.get("drain", 2.0),
            stop=given.get("stop", 2.0),
        )
        self.life.on_phase(lambda phase: say(phase.value))
        self.installed = observe.install(
            observe.ObserveConfig(
                service="suite",
                backends={"main": observe.BackendConfig(endpoint=given["collector"], timeout=30.0)},
                queue=observe.QueueConfig(linger=0.05),
            )
        )
        self.life.add(self.installed)
        self.registry = discovery.connect(f"etcd://{given['endpoint']}", timeout=30.0)
        self.limit = ratelimit.TokenBucket("10000/s", name="api")
        self.plugin = policy()
        self.sock = listening()

    def parts(self):
        life = self.life
        life.add(
            "policy", start=lambda: say("policy up"), stop=self.end_policy, depends_on=["observe"]
        )
        life.add("probes", start=self.start_probes, stop=self.end_probes, depends_on=["observe"])
        self.engine = logs.Engine(logs.Follow(given["log"], poll=0.02))
        life.add_worker("logs", self.read_logs, depends_on=["observe"])
        life.add("log files", drain=self.engine.drain, depends_on=["logs"])
        life.add(
            "registry", start=self.start_registry, stop=self.end_registry, depends_on=["observe"]
        )
        server = grpc_aio.aio.server(interceptors=[grpc_aio.ServerContext(root=life.context)])
        server.add_generic_rpc_handlers((Handler(self.rpc),))
        port = server.add_insecure_port("127.0.0.1:0")
        self.channel = grpc_aio.aio.insecure_channel(
            f"127.0.0.1:{port}", interceptors=grpc_aio.client_interceptors()
        )
        self.call = self.channel.unary_unary("/suite/Work")
        life.add(AioGrpcServer(server, depends_on=["policy", "registry", "probes"]))
        app = asgi.ContextMiddleware(
            asgi.GuardMiddleware(asgi.PolicyMiddleware(self.web, policy=self.plugin)),
            lifecycle=life,
        )
        life.add(
            UvicornServer(
                app, lifecycle=life, sockets=[self.sock], depends_on=["grpc"], log_level="critical"
            )
        )
        address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        life.add(
            self.registry.register("suite", address, lifecycle=life, grace=0.0, wait=False),
            depends_on=["http"],
        )
        return address

    async def rpc(self, request, _):
        if request == b"slow":
            await asyncio.sleep(1.0)
        return b"done"

    async def web(self, scope, receive, send):
        path = scope["path"]
        with self.limit:
            if path == "/stuck":
                say("request hangs")
                await asyncio.sleep(60.0)
            elif path == "/thread":
                say("thread hangs")
                await asyncio.to_thread(time.sleep, 60.0)
            elif path == "/guest":
                say("guest hangs")
                await asyncio.to_thread(
                    context.bind(self.plugin.call, context.background()), "spin"
                )
            elif path == "/loop":
                say("loop hangs")
                time.sleep(60.0)  # noqa: ASYNC251  # the mistake that is tested
            answer = await self.call(path.strip("/").encode())
        log.warning("served %s", path)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    def end_policy(self):
        stuck("policy")
        self.plugin.close()
        say("policy down")

    def start_probes(self):
        if given.get("object"):
            self.probes = ebpf.load(given["object"], programs=["burst"])
            self.ring = self.probes.ring("events")
            self.reader = threading.Thread(target=self.read_events, name="events")
            self.reader.start()
        say("probes up")

    def read_events(self):
        for batch in self.ring:
            log.warning("%d events", len(batch))

    def end_probes(self):
        stuck("probes")
        if given.get("object"):
            self.probes.close()
            self.reader.join()
        say("probes down")

    def read_logs(self):
        def sink(parsed):
            stuck("logs")
            log.warning("read %d lines", len(parsed.records))

        self.engine.run(sink)
        say("logs down")

    def start_registry(self):
        stuck("start")
        say("registry up")

    def end_registry(self):
        stuck("registry")
        self.registry.close()
        say("registry down")

    async def run(self):
        address = self.parts()

        def serving(phase):
            if phase.value == "serving":
                say("up", address=address)

        self.life.on_phase(serving)
        try:
            return await self.life.run_async(overrun=given.get("overrun", 1.0))
        finally:
            report = self.life.report
            say(
                "report",
                text=str(report),
                ok=report.ok,
                took=report.duration,
                budget=report.budget,
                stopped=report.stopped,
                not_drained=report.not_drained,
                not_stopped=report.not_stopped,
                errors=[name for name, _, _ in report.errors],
            )
            await self.channel.close()


def main():
    Path(given["log"]).touch()
    service = Service()
    say("pid", pid=os.getpid())
    asyncio.run(service.run())


if __name__ == "__main__":
    main()
