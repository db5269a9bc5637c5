"""The pipeline end to end: what the application pays, what arrives, what an end costs.

Run as ``python bench/bench_observe_pipeline.py [--burst N] [--rate N] [--outage SECONDS] [PART]...``
with the parts ``cost``, ``burst``, ``outage`` and ``hole``; all of them by default (three minutes).
The server runs in a process of its own, the peers in this one.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from harness import table
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from hastack.observe import BackendConfig, QueueConfig, SpillConfig
from hastack.observe._backends import exporter_of
from hastack.observe.traces import SpanProcessor

ATTRIBUTES = {
    "http.request.method": "GET",
    "http.route": "/orders/{id}",
    "http.response.status_code": 200,
    "server.address": "orders.internal",
    "server.port": 8080,
    "url.scheme": "https",
    "user_agent.original": "curl/8.5.0",
    "network.protocol.version": "1.1",
    "client.address": "10.0.0.7",
    "app.region": "eu-central-1",
}


class Sink:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("observe_sink.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = f"http://127.0.0.1:{int(self._line())}"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def say(self, command: str) -> dict:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return json.loads(self._line())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)


def provider_of(processor: object, service: str = "svc0") -> TracerProvider:
    provider = TracerProvider(resource=Resource({"service.name": service}), shutdown_on_exit=False)
    if processor is not None:
        provider.add_span_processor(processor)
    return provider


def rss() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


class Peak(threading.Thread):
    """The most memory that this process takes while it runs, in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        gc.collect()
        self.start_at = self.most = rss()
        self.done = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.done.wait(0.05):
            self.most = max(self.most, rss())

    def end(self) -> str:
        self.done.set()
        self.join()
        return f"{self.start_at:.0f} MiB before, {self.most:.0f} MiB at most"


def peers(url: str) -> dict[str, object]:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    found: dict[str, object] = {}
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        print("(no peers: opentelemetry-exporter-otlp-proto-http is not installed)")
    else:
        found["BatchSpanProcessor, OTLP/HTTP"] = lambda: BatchSpanProcessor(
            OTLPSpanExporter(url + "/v1/traces")
        )
    return found


def emit(tracers: list, count: int, rate: float, first: int = 0) -> float:
    """Spans, round-robin over tracers, at most so many a second; the seconds it took."""
    began = time.perf_counter()
    step = max(1, int(rate / 100))
    for n in range(count):
        span = tracers[n % len(tracers)].start_span(
            f"svc{n % len(tracers)}-{(first + n) // len(tracers):08d}", attributes=ATTRIBUTES
        )
        span.end()
        if n % step == 0:
            ahead = n / rate - (time.perf_counter() - began)
            if ahead > 0:
                time.sleep(ahead)
    return time.perf_counter() - began


def cost(sink: Sink) -> None:
    """on_end() alone, on the application's thread: one span again and again, threads running."""
    span = provider_of(None).get_tracer("bench").start_span("svc0-00000000", attributes=ATTRIBUTES)
    span.end()
    processors: dict[str, object] = dict(peers(sink.url))
    backend = BackendConfig(endpoint=sink.url)
    processors["hastack SpanProcessor"] = lambda: SpanProcessor(
        exporter_of("cost", backend, "traces", queue=QueueConfig(max_bytes=2**31))
    )
    rows = {}
    for name, make in processors.items():
        costs = []
        for _ in range(5):
            processor = make()
            gc.collect()
            took = 0
            for _ in range(20):  # bursts, as requests bring them; the threads work in between
                begin = time.perf_counter_ns()
                for _ in range(100):
                    processor.on_end(span)
                took += time.perf_counter_ns() - begin
                time.sleep(0.005)
            costs.append(took / 2000)
            processor.shutdown()
        rows[name] = sorted(costs)[2]
    table("Span record: on_end() on the application's thread", rows, base="hastack SpanProcessor")
    sink.say("reset")


def burst(sink: Sink, count: int, rate: float) -> None:
    """So many spans at once with the settings that nobody changed."""
    print(f"\n### {count:,} spans at {rate:,.0f}/s, default settings\n")
    for name, make in peers(sink.url).items():
        sink.say("reset")
        processor = make()
        short = min(count, 200_000)
        took = emit([provider_of(processor).get_tracer("bench")], short, rate)
        processor.force_flush()
        processor.shutdown()
        state = sink.say("state")
        lost = 100 * (1 - state["spans"] / short)
        print(
            f"{name}: {short:,} at {short / took:,.0f}/s, {state['spans']:,} arrived, {lost:.1f} % lost"
        )
    sink.say("reset")
    exporter = exporter_of("burst", BackendConfig(endpoint=sink.url), "traces")
    tracer = provider_of(SpanProcessor(exporter)).get_tracer("bench")
    peak = Peak()
    took = emit([tracer], count, rate)
    report = exporter.force_flush(60.0)
    state = sink.say("state")
    print(f"hastack: {count:,} at {count / took:,.0f}/s, {state['spans']:,} arrived; {peak.end()}")
    print(f"  flush: {report}")
    print(f"  server: {state['services']}")
    exporter.shutdown(5.0)


def outage(sink: Sink, seconds: float, rate: float) -> None:
    """The backend answers 503 for a while; spans of four services go on, with a spill."""
    print(f"\n### {seconds:.0f} s of outage at {rate:,.0f} spans/s, four services, spill\n")
    sink.say("reset")
    with tempfile.TemporaryDirectory() as directory:
        exporter = exporter_of(
            "outage",
            BackendConfig(endpoint=sink.url),
            "traces",
            queue=QueueConfig(when_full="spill", max_bytes=8 * 2**20, max_block=30.0),
            spill=SpillConfig(directory=Path(directory)),
        )
        tracers = [
            provider_of(SpanProcessor(exporter), f"svc{n}").get_tracer("bench") for n in range(4)
        ]
        peak = Peak()
        normal = int(rate * 2) // 4 * 4
        emit(tracers, normal, rate)
        sink.say("down")
        during = int(rate * seconds) // 4 * 4
        emit(tracers, during, rate, first=normal)
        print(f"at the end of the outage: {exporter.account()}")
        sink.say("up")
        began = time.monotonic()
        report = exporter.force_flush(120.0)
        state = sink.say("state")
        print(f"after {time.monotonic() - began:.1f} s: {report}; {peak.end()}")
        print(f"  server refused {state['refused']} requests and has {state['services']}")
        exporter.shutdown(5.0)


def hole(sink: Sink) -> None:
    """A server that never answers: how long the end takes, and what it says."""
    print("\n### shutdown(2.0) with a server that takes requests and never answers\n")
    sink.say("hole")
    for name, make in peers(sink.url).items():
        processor = make()
        emit([provider_of(processor).get_tracer("bench")], 5000, 50_000)
        time.sleep(0.5)
        began = time.monotonic()
        processor.shutdown()
        print(f"{name}: {time.monotonic() - began:.2f} s, and it says nothing")
    exporter = exporter_of("hole", BackendConfig(endpoint=sink.url), "traces")
    emit([provider_of(SpanProcessor(exporter)).get_tracer("bench")], 50_000, 50_000)
    time.sleep(0.5)
    began = time.monotonic()
    report = exporter.shutdown(2.0)
    print(f"hastack: {time.monotonic() - began:.2f} s; {report}")
    sink.say("up")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["cost", "burst", "outage", "hole"])
    parser.add_argument("--burst", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=20_000)
    parser.add_argument("--outage", type=float, default=20.0)
    parser.add_argument("--outage-rate", type=float, default=5_000)
    options = parser.parse_args()
    sink = Sink()
    try:
        for part in options.parts:
            if part == "cost":
                cost(sink)
            elif part == "burst":
                burst(sink, options.burst, options.rate)
            elif part == "outage":
                outage(sink, options.outage, options.outage_rate)
            else:
                hole(sink)
    finally:
        sink.close()


if __name__ == "__main__":
    main()
