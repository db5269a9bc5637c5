"""Items and an encoder for tests of the pipeline alone: an item is a text, a body its lines."""

from __future__ import annotations

from collections import deque

from hastack.observe.pipeline import (
    Encoded,
    Exporter,
    HttpAnswer,
    NoAnswer,
    RetryRules,
    Wire,
    WireFormat,
)


class Lines:
    """Encodes texts, one per line; an item ``"bad..."`` is left out."""

    format = WireFormat("lines", "text/plain", ("gzip", "identity"))

    def count(self, items):
        return len(items)

    def encode(self, items, out, *, max_bytes=1 << 20, start=0):
        began, units, oversized = len(out), 0, 0
        at = start
        for at in range(start, len(items)):
            line = f"{items[at]}\n".encode()
            if len(line) > max_bytes:
                oversized += 1
                continue
            if len(out) - began + len(line) > max_bytes:
                return Encoded(at - start, units, len(out) - began, oversized)
            out += line
            units += 1
        return Encoded(len(items) - start, units, len(out) - began, oversized)


class Memory:
    """A transport that keeps what it is sent; answers come from a script, then are good."""

    def __init__(self, *script):
        self.script = deque(script)
        self.always = None
        self.bodies = []  # (lane, body)
        self.aborted = False

    def send(self, lane, body, timeout):
        answer = self.always or (self.script.popleft() if self.script else HttpAnswer(200, {}))
        if callable(answer):
            answer = answer()
        if isinstance(answer, HttpAnswer) and answer.status == 200:
            self.bodies.append((lane, body))
        return answer

    def abort(self):
        self.aborted = True

    def close(self, lane):
        pass

    def forget(self):
        self.bodies = []

    def lines(self):
        return [line for _, body in self.bodies for line in body.decode().splitlines()]


DOWN = NoAnswer("connect", "refused")


def exporter_to(transport, name="test", **options):
    wire = Wire(
        encoder=Lines(),
        transport=transport,
        rules=RetryRules.OTLP_HTTP,
        compression="identity",
    )
    return Exporter(name, signal="logs", wire=wire, **options)


def numbers(count, start=0):
    return [f"line {n:06d}" for n in range(start, start + count)]


def emit(exporter, lines, lane=0):
    for line in lines:
        exporter.emit(lane, line, 100)
