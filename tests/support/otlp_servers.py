"""OTLP servers on loopback, built on the official messages, that fail on command.

A server takes one action from its script for each request, and is well when the script is at its
end. What it took it keeps, decoded.
"""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

MESSAGES = {
    "traces": (ExportTraceServiceRequest, ExportTraceServiceResponse, "rejected_spans"),
    "logs": (ExportLogsServiceRequest, ExportLogsServiceResponse, "rejected_log_records"),
    "metrics": (
        ExportMetricsServiceRequest,
        ExportMetricsServiceResponse,
        "rejected_data_points",
    ),
}


class Received:
    """What a server took, and the script of what it does next."""

    def __init__(self):
        self.lock = threading.Lock()
        self.script: deque = deque()
        self.always = None  # an action for every request, instead of the script
        self.requests = []  # (time, signal, action) of all of them
        self.messages = []  # (signal, message) of those it took
        self.headers = []

    def next_action(self, signal):
        with self.lock:
            action = self.always or (self.script.popleft() if self.script else "ok")
            self.requests.append((time.monotonic(), signal, action))
            return action

    def take(self, signal, message):
        with self.lock:
            self.messages.append((signal, message))

    def _all(self, signal):
        with self.lock:
            return [message for s, message in self.messages if s == signal]

    def spans(self):
        """(service, name) of each span, in order of arrival."""
        return [
            (_service(r.resource), span.name)
            for message in self._all("traces")
            for r in message.resource_spans
            for scope in r.scope_spans
            for span in scope.spans
        ]

    def records(self):
        """(service, body) of each log record, in order of arrival."""
        return [
            (_service(r.resource), record.body.string_value)
            for message in self._all("logs")
            for r in message.resource_logs
            for scope in r.scope_logs
            for record in scope.log_records
        ]

    def metrics(self):
        """Names of the metrics with their messages, the last one of each name."""
        return {
            metric.name: metric
            for message in self._all("metrics")
            for r in message.resource_metrics
            for scope in r.scope_metrics
            for metric in scope.metrics
        }


def _service(resource):
    return next((a.value.string_value for a in resource.attributes if a.key == "service.name"), "")


def _count(signal, message):
    groups = {"traces": ("resource_spans", "scope_spans", "spans"),
              "logs": ("resource_logs", "scope_logs", "log_records")}[signal]  # fmt: skip
    return sum(
        len(getattr(scope, groups[2]))
        for r in getattr(message, groups[0])
        for scope in getattr(r, groups[1])
    )


class HttpServer(Received):
    """OTLP/HTTP.

    Actions: ``"ok"``; ``("slow", seconds)``; a status code; ``(status, {header: value})``; ``("partial", n)``;
    ``("limit", n)`` answers 413 to more than n units; ``"cut request"`` closes before the answer;
    ``"cut answer"`` in the middle of it; ``"lost answer"`` takes the request and closes;
    ``"loris"`` sends a byte at a time for ever; ``"huge"`` promises 4 GiB; ``"bad gzip"``;
    ``"gzip bomb"``; ``"garbage"``; ``"black hole"`` says nothing until the end.
    """

    def __init__(self):
        super().__init__()
        self.stopping = threading.Event()
        self.limit = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                outer._serve(self)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def handle_error(self, *_):
                pass  # clients that go away in the middle are what is tested

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(
            target=lambda: self.server.serve_forever(poll_interval=0.02), daemon=True
        )
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()

    def _serve(self, handler):
        signal = handler.path.removeprefix("/v1/")
        request_type, response_type, rejected = MESSAGES[signal]
        body = handler.rfile.read(int(handler.headers["content-length"]))
        with self.lock:
            self.headers.append(dict(handler.headers))
        if handler.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert handler.headers["content-type"] == "application/x-protobuf"
        message = request_type.FromString(body)
        action = self.next_action(signal)
        if action == "ok" and self.limit is not None and _count(signal, message) > self.limit:
            action = 413
        response = b""
        if isinstance(action, tuple) and action[0] == "slow":
            self.stopping.wait(action[1])
            action = "ok"
        if isinstance(action, tuple) and action[0] == "partial":
            partial = {rejected: action[1], "error_message": "not these"}
            response = response_type(partial_success=partial).SerializeToString()
            action = "ok"
        if action == "ok":
            self.take(signal, message)
            return self._answer(handler, 200, {}, response)
        if isinstance(action, int):
            return self._answer(handler, action, {}, b"")
        if isinstance(action, tuple):
            return self._answer(handler, action[0], action[1], b"")
        if action == "lost answer":
            self.take(signal, message)
        return self._break(handler, action)

    def _answer(self, handler, status, headers, body):
        handler.send_response(status)
        handler.send_header("Content-Type", "application/x-protobuf")
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _break(self, handler, action):
        sock = handler.connection
        handler.close_connection = True
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
        if action in {"cut request", "lost answer"}:
            sock.shutdown(socket.SHUT_RDWR)
        elif action == "cut answer":
            sock.sendall(head + b"Content-Length: 50\r\n\r\n1234")
            sock.shutdown(socket.SHUT_RDWR)
        elif action == "garbage":
            sock.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
            sock.shutdown(socket.SHUT_RDWR)
        elif action == "loris":
            for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 10_000:
                if self.stopping.wait(0.05):
                    return
                sock.sendall(bytes([byte]))
        elif action == "huge":
            sock.sendall(head + b"Content-Length: 4294967296\r\n\r\n")
            piece = b"x" * 65536
            while not self.stopping.is_set():
                sock.sendall(piece)
        elif action == "bad gzip":
            sock.sendall(head + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope")
        elif action == "gzip bomb":
            bomb = gzip.compress(b"\0" * 50_000_000)
            length = str(len(bomb)).encode()
            sock.sendall(
                head + b"Content-Encoding: gzip\r\nContent-Length: " + length + b"\r\n\r\n" + bomb
            )
        elif action == "black hole":
            self.stopping.wait(60)
        else:
            raise AssertionError(action)


class GrpcServer(Received):
    """OTLP/gRPC.

    Actions: ``"ok"``; ``("code", StatusCode, details)``; ``("retry info", seconds)``;
    ``("partial", n)``; ``"black hole"``.
    """

    def __init__(self, port=0):
        super().__init__()
        self.stopping = threading.Event()
        self.server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        for signal, service in (
            ("traces", "trace.v1.TraceService"),
            ("logs", "logs.v1.LogsService"),
            ("metrics", "metrics.v1.MetricsService"),
        ):
            request_type, response_type, _ = MESSAGES[signal]
            handler = grpc.unary_unary_rpc_method_handler(
                lambda request, context, signal=signal: self._export(signal, request, context),
                request_deserializer=request_type.FromString,
                response_serializer=response_type.SerializeToString,
            )
            name = f"opentelemetry.proto.collector.{service}"
            self.server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(name, {"Export": handler}),)
            )
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()
        self.url = f"127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Send GOAWAY and close."""
        self.stopping.set()
        self.server.stop(0).wait(10)

    def _export(self, signal, request, context):
        _, response_type, rejected = MESSAGES[signal]
        with self.lock:
            self.headers.append(dict(context.invocation_metadata()))
        action = self.next_action(signal)
        if action == "black hole":
            self.stopping.wait(60)
            context.abort(grpc.StatusCode.UNAVAILABLE, "late")
        if action[0] == "code":
            context.abort(action[1], action[2])
        if action[0] == "retry info":
            context.set_trailing_metadata((("grpc-status-details-bin", _retry_info(action[1])),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        self.take(signal, request)
        if action[0] == "partial":
            return response_type(partial_success={rejected: action[1], "error_message": "no"})
        return response_type()


def _retry_info(seconds):
    delay = Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    inner = delay.SerializeToString()
    detail = AnyMessage(
        type_url="type.googleapis.com/google.rpc.RetryInfo",
        value=b"\x0a" + bytes([len(inner)]) + inner,
    ).SerializeToString()
    return b"\x08\x08\x12\x04busy\x1a" + bytes([len(detail)]) + detail
