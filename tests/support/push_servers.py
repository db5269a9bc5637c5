"""Loki's push endpoint and a remote write receiver on loopback, strict, and failing on command."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cramjam
from otlp_servers import Received
from prometheus_client.parser import text_string_to_metric_families
from wire_messages import LOKI, RW1, RW2


class _Server(Received):
    def __init__(self):
        super().__init__()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                status, headers, text = outer.answer(self.path, self.headers, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(
            target=lambda: self.server.serve_forever(poll_interval=0.02), daemon=True
        ).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def scripted(self):
        action = self.next_action("push")
        if action == "ok":
            return None
        return (action, {}, b"") if isinstance(action, int) else (*action, b"")


class LokiServer(_Server):
    """Takes pushes in protobuf within Loki's default limits.

    Limits as Loki documents them ("limits_config"): 15 labels per series, names of 1024 and values
    of 2048 bytes, lines of 256 KB, 64 KB and 128 entries of structured metadata, nothing older than
    a week or more than ten minutes in the future, nothing further behind the newest entry of a
    stream than an hour. Whatever is wrong is a 400, but what was right in the request is kept.
    """

    def __init__(self):
        super().__init__()
        self.streams = defaultdict(list)  # labels -> [(time in ns, line, metadata)]
        self.limit = None  # entries of a request

    def answer(self, path, headers, body):
        if path != "/loki/api/v1/push":
            return 404, {}, b"404 page not found"
        if headers["content-type"] == "application/json":
            request = _from_json(headers, body)
        elif headers["content-type"] == "application/x-protobuf":
            request = LOKI["PushRequest"].FromString(bytes(cramjam.snappy.decompress_raw(body)))
        else:
            return 400, {}, b"unexpected content type"
        if self.limit and sum(len(s.entries) for s in request.streams) > self.limit:
            return 413, {}, b"request body too large"
        scripted = self.scripted()
        if scripted is not None:
            return scripted
        problems = []
        with self.lock:
            for stream in request.streams:
                self._push(stream, problems)
        return (400, {}, "\n".join(problems).encode()) if problems else (204, {}, b"")

    def _push(self, stream, problems):
        (family,) = text_string_to_metric_families(f"stream{stream.labels} 1\n")
        labels = family.samples[0].labels
        if not labels:
            problems.append("at least one label pair is required per stream")
        if len(labels) > 15:
            problems.append(f"stream has {len(labels)} label names; limit 15")
        if any(len(k) > 1024 or len(v.encode()) > 2048 for k, v in labels.items()):
            problems.append("label too long")
        if problems:
            return
        kept = self.streams[tuple(sorted(labels.items()))]
        now = time.time()
        for entry in stream.entries:
            at = entry.timestamp.seconds * 10**9 + entry.timestamp.nanos
            newest = max((t for t, _, _ in kept), default=0)
            metadata = [(pair.name, pair.value) for pair in entry.metadata]
            if len(entry.line.encode()) > 256 * 1024:
                problems.append("max entry size exceeded")
            elif len(metadata) > 128 or sum(len(k + v) for k, v in metadata) > 64 * 1024:
                problems.append("stream exceeded structured metadata limit")
            elif at < (now - 7 * 86400) * 1e9:
                problems.append("entry has timestamp too old")
            elif at > (now + 600) * 1e9:
                problems.append("entry has timestamp too new")
            elif at < newest - 3600 * 10**9:
                problems.append("entry too far behind")
            else:
                kept.append((at, entry.line, metadata))


def _from_json(headers, body):
    """The same message, from the JSON that Loki documents."""
    encoding = headers.get("content-encoding", "")
    assert encoding in {"", "gzip"}
    plain = json.loads(gzip.decompress(body) if encoding else body)
    request = LOKI["PushRequest"]()
    for each in plain["streams"]:
        assert each["stream"], "labels"
        labels = ", ".join(f"{k}={json.dumps(v)}" for k, v in sorted(each["stream"].items()))
        stream = request.streams.add(labels=f"{{{labels}}}")
        for at, line, *metadata in each["values"]:
            entry = stream.entries.add(line=line)
            assert isinstance(at, str)
            entry.timestamp.seconds, entry.timestamp.nanos = divmod(int(at), 10**9)
            for name, value in (metadata[0] if metadata else {}).items():
                assert isinstance(value, str)
                entry.metadata.add(name=name, value=value)
    return request


class RemoteWriteServer(_Server):
    """Takes remote writes of the versions it knows.

    Args:
        versions: Which ones.
        polite: Whether a request of another version is a 415; otherwise it is called a success
            and nothing of it is kept, as Prometheus did before 2.54.
    """

    def __init__(self, versions=(1, 2), *, polite=True):
        super().__init__()
        self.versions = versions
        self.polite = polite
        self.samples = defaultdict(list)  # name -> [(labels, value)]
        self.histograms = defaultdict(list)  # name -> [histogram]; version 2 only
        self.seen = []  # versions of the requests

    def answer(self, path, headers, body):
        version = 2 if "v2" in headers["content-type"] else 1
        expected = {1: "0.1.0", 2: "2.0.0"}[version]
        assert headers["x-prometheus-remote-write-version"] == expected
        assert headers["content-encoding"] == "snappy"
        with self.lock:
            self.seen.append(version)
        if version not in self.versions:
            return (415, {}, b"unsupported proto message") if self.polite else (204, {}, b"")
        scripted = self.scripted()
        if scripted is not None:
            return scripted
        plain = bytes(cramjam.snappy.decompress_raw(body))
        count = self._two(plain) if version == 2 else self._one(plain)
        written = {
            "X-Prometheus-Remote-Write-Samples-Written": str(count),
            "X-Prometheus-Remote-Write-Histograms-Written": str(len(self.histograms)),
            "X-Prometheus-Remote-Write-Exemplars-Written": "0",
        }
        return 204, written if version == 2 else {}, b""

    def _keep(self, labels, samples):
        assert list(labels) == sorted(labels)
        with self.lock:
            self.samples[labels["__name__"]] += [(labels, s.value) for s in samples]
        return len(samples)

    def _one(self, plain):
        request = RW1["WriteRequest"].FromString(plain)
        return sum(
            self._keep({pair.name: pair.value for pair in series.labels}, series.samples)
            for series in request.timeseries
        )

    def _two(self, plain):
        request = RW2["Request"].FromString(plain)
        assert request.symbols[0] == ""
        total = 0
        for series in request.timeseries:
            refs = list(series.labels_refs)
            pairs = zip(refs[::2], refs[1::2], strict=True)
            labels = {request.symbols[k]: request.symbols[v] for k, v in pairs}
            total += self._keep(labels, series.samples) if series.samples else 0
            if series.histograms:
                with self.lock:
                    self.histograms[labels["__name__"]] += series.histograms
        return total
