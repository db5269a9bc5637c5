"""A span and a line in the access log for each request, and what the log engine makes of the lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from opentelemetry import propagate, trace

from hastack.observe import logs

if TYPE_CHECKING:
    from pathlib import Path

    from wiring import Wiring


class AccessLog:
    """ASGI middleware."""

    def __init__(self, app, *, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.app = app
        self.file = path.open("a", buffering=1, encoding="utf-8")
        self.tracer = trace.get_tracer("shop")

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        method, path = scope["method"], scope["path"]
        status, began = 500, time.perf_counter()

        async def watching(message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        caller = propagate.extract(headers)
        with self.tracer.start_as_current_span(method, caller, kind=trace.SpanKind.SERVER) as span:
            try:
                await self.app(scope, receive, watching)
            finally:
                took = time.perf_counter() - began
                span.set_attributes({"url.path": path, "http.response.status_code": status})
                client = headers.get("x-client", "anonymous")
                self.file.write(
                    f"level={'info' if status < 500 else 'error'} method={method} path={path!r} "
                    f"status={status} took={took * 1000:.1f}ms client={client!r}\n"
                )


def follow(path: Path, wiring: Wiring) -> logs.SchemaTracker:
    """Read the lines back while they are written: schemas that follow, and metrics."""
    tracker = logs.SchemaTracker()
    engine = logs.Engine(
        logs.Follow(path, poll=0.1), parser=logs.LiveParser(wiring.watched), stages=[tracker]
    )
    seen = wiring.observed.metrics.meter("shop").counter("shop.requests")

    def count(batch) -> None:
        for record in batch.records:
            seen.add(1, {"status": record.get("status", 0)})

    wiring.life.add_worker("access-log", lambda: engine.run(count), depends_on=["observe"])
    wiring.life.add("access-log-end", drain=engine.drain, depends_on=["access-log"])
    return tracker
