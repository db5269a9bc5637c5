"""Backends that somebody else wrote, where their programs are on PATH; asked for what they took.

Each has ``url(kind)``, where to send to, and ``spans(service)`` or ``lines(service)``, what arrived.
The servers of the tests have the same, so that one test runs against all that there is.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request

from otlp_servers import GrpcServer, HttpServer
from prometheus_servers import free_port
from push_servers import LokiServer

JAEGER = """
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry: {{metrics: {{level: none}}}}
extensions:
  jaeger_storage: {{backends: {{kept: {{memory: {{max_traces: 100000}}}}}}}}
  jaeger_query:
    storage: {{traces: kept}}
    http: {{endpoint: "127.0.0.1:{query}"}}
    grpc: {{endpoint: "127.0.0.1:{other}"}}
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
      http: {{endpoint: "127.0.0.1:{http}"}}
exporters:
  jaeger_storage_exporter: {{trace_storage: kept}}
"""

COLLECTOR = """
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
      http: {{endpoint: "127.0.0.1:{http}"}}
exporters:
  otlphttp: {{endpoint: "{sink}", compression: none}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlphttp]}}
"""

LOKI = """
auth_enabled: false
analytics: {{reporting_enabled: false}}
server: {{http_listen_address: 127.0.0.1, http_listen_port: {http}, grpc_listen_address: 127.0.0.1, grpc_listen_port: {grpc}}}
common:
  instance_addr: 127.0.0.1
  path_prefix: {folder}
  replication_factor: 1
  ring: {{kvstore: {{store: inmemory}}}}
  storage: {{filesystem: {{chunks_directory: {folder}/chunks, rules_directory: {folder}/rules}}}}
schema_config:
  configs:
    - {{from: 2020-10-24, store: tsdb, object_store: filesystem, schema: v13, index: {{prefix: index_, period: 24h}}}}
"""


def available(*programs):
    """Those of the programs that are on PATH."""
    return [name for name in programs if shutil.which(name)]


TRACE_BACKENDS = ["tests", *available("jaeger", "otelcol", "otelcol-contrib", "rotel-agent")]
LOG_BACKENDS = ["tests", *available("loki")]


def get(port, path, **parameters):
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}?{query}", timeout=10) as answer:
        return json.load(answer)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class OfTests:
    """The OTLP servers of these tests."""

    def __init__(self, folder, stack):
        self.http = stack.enter_context(HttpServer())
        self.grpc = stack.enter_context(GrpcServer())

    def url(self, kind):
        return self.http.url if kind == "otlp-http" else self.grpc.url

    def spans(self, service):
        found = [*self.http.spans(), *self.grpc.spans()]
        return [name for whose, name in found if whose == service]


class Program:
    """Something that takes OTLP on two ports."""

    def start(self, folder, stack, command, port):
        log = stack.enter_context((folder / "log").open("w"))
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        stack.callback(end, process)
        until = time.monotonic() + 40
        while not listens(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.05)

    def url(self, kind):
        return f"127.0.0.1:{self.grpc}" if kind == "otlp-grpc" else f"http://127.0.0.1:{self.http}"


def end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


class Jaeger(Program):
    """Jaeger 2, asked through its own query service."""

    def __init__(self, folder, stack):
        self.query, self.grpc, self.http = free_port(), free_port(), free_port()
        config = folder / "jaeger.yaml"
        ports = {"query": self.query, "grpc": self.grpc, "http": self.http, "other": free_port()}
        config.write_text(JAEGER.format(**ports))
        self.start(folder, stack, ["jaeger", "--config", str(config)], self.query)

    def spans(self, service):
        traces = get(self.query, "/api/traces", service=service, limit=10_000)["data"]
        return [span["operationName"] for trace in traces for span in trace["spans"]]


class Collector(Program):
    """A collector that sends what it takes to a server of the tests."""

    def __init__(self, program, folder, stack):
        self.grpc, self.http = free_port(), free_port()
        self.sink = stack.enter_context(HttpServer())
        if program == "rotel-agent":
            options = {
                "otlp-grpc-endpoint": f"127.0.0.1:{self.grpc}",
                "otlp-http-endpoint": f"127.0.0.1:{self.http}",
                "exporter": "otlp",
                "otlp-exporter-endpoint": self.sink.url,
                "otlp-exporter-protocol": "http",
                "pid-file": str(folder / "pid"),
            }
            command = [program, "start", *[f"--{name}={value}" for name, value in options.items()]]
        else:
            config = folder / "collector.yaml"
            config.write_text(COLLECTOR.format(grpc=self.grpc, http=self.http, sink=self.sink.url))
            command = [program, "--config", str(config)]
        self.start(folder, stack, command, self.grpc)

    def spans(self, service):
        return [name for whose, name in self.sink.spans() if whose == service]


class LokiOfTests:
    """The push server of these tests, with Loki's documented limits."""

    def __init__(self, folder, stack):
        self.server = stack.enter_context(LokiServer())
        self.push = self.server.url

    def lines(self, service):
        return [
            line
            for labels, entries in self.server.streams.items()
            for _, line, _ in entries
            if dict(labels)["service_name"] == service
        ]


class Loki(Program):
    """Loki, asked through its own query endpoint."""

    def __init__(self, folder, stack):
        self.port = free_port()
        config = folder / "loki.yaml"
        config.write_text(LOKI.format(folder=folder, http=self.port, grpc=free_port()))
        command = ["loki", f"-config.file={config}"]
        self.start(folder, stack, command, self.port)
        self.push = f"http://127.0.0.1:{self.port}"

    def lines(self, service):
        found = get(
            self.port,
            "/loki/api/v1/query_range",
            query=f'{{service_name="{service}"}}',
            limit=5000,
            direction="forward",
        )
        entries = [value for each in found["data"]["result"] for value in each["values"]]
        return [line for _, line, *_ in sorted(entries)]


@contextlib.contextmanager
def running(name, folder, *, logs=False):
    """The backend of that name."""
    with contextlib.ExitStack() as stack:
        if name == "tests":
            yield (LokiOfTests if logs else OfTests)(folder, stack)
        elif name in {"jaeger", "loki"}:
            yield {"jaeger": Jaeger, "loki": Loki}[name](folder, stack)
        else:
            yield Collector(name, folder, stack)
