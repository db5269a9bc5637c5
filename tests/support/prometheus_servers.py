"""Real Prometheus processes, and a page for them to scrape."""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BINARY = shutil.which("prometheus")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Prometheus:
    """Talks to a running server."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path, **parameters):
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=10) as response:
            return json.load(response)["data"]

    def query(self, expression):
        return self.get("/api/v1/query", query=expression)["result"]

    def wait_for(self, expression, seconds=30.0):
        """The result of ``expression`` as soon as there is one."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.query(expression)
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"no {expression}: {self.get('/api/v1/targets')}")

    def exemplars(self, expression, seconds=30.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            now = time.time()
            found = self.get(
                "/api/v1/query_exemplars", query=expression, start=now - 3600, end=now + 3600
            )
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"no exemplars of {expression}")

    def write(self, body, content_type, headers):
        """Send one remote write; the status."""
        request = urllib.request.Request(
            f"{self.url}/api/v1/write",
            data=body,
            headers={"Content-Type": content_type, "Content-Encoding": "snappy", **dict(headers)},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, ""
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@contextlib.contextmanager
def running(folder, *targets):
    """A server that takes remote writes and scrapes ``targets``, ports, as jobs ``page-<port>``."""
    scrape = "scrape_configs:" if targets else ""
    for target in targets:
        scrape += f"""
  - job_name: page-{target}
    scrape_interval: 500ms
    scrape_timeout: 400ms
    static_configs: [{{targets: ["127.0.0.1:{target}"]}}]
"""
    config = folder / "prometheus.yml"
    config.write_text(f"storage: {{exemplars: {{max_exemplars: 1000}}}}\n{scrape}")
    port = free_port()
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [
            BINARY,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.enable-remote-write-receiver",
            "--enable-feature=exemplar-storage,native-histograms",
        ],
        stdout=log,
        stderr=log,
    )
    try:
        server = Prometheus(port)
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{server.url}/-/ready", timeout=5).close()
                break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        log.close()


@contextlib.contextmanager
def page(answer, port):
    """Serves ``answer(accept) -> (content type, body)`` at any path; yields the requests."""
    accepts = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            accept = self.headers.get("Accept", "")
            accepts.append(accept)
            content_type, body = answer(accept)
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield accepts
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
