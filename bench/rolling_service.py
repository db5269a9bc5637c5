"""One backend for `rolling_restarts.py`: with hastack's lifecycle, or uvicorn alone.

usage: rolling_service.py PORT hastack|bare
"""

from __future__ import annotations

import asyncio
import sys


async def work(scope, receive, send):
    """Answers after 10 ms, so that there is always something in flight."""
    if scope["type"] != "http":
        return
    await asyncio.sleep(0.01)
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"3")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok\n"})


def main(port: int, kind: str) -> None:
    options = {"host": "127.0.0.1", "port": port, "log_level": "error", "lifespan": "off"}
    if kind == "bare":
        import uvicorn

        uvicorn.run(work, **options)
        return
    from hastack.contrib.asgi import HealthMiddleware
    from hastack.contrib.uvicorn import serve
    from hastack.health import Health
    from hastack.lifecycle import Lifecycle

    # The driver probes every 50 ms and takes a backend out after the first failure; the rest of
    # the lame duck covers the balancer's reload.
    life = Lifecycle("backend", lame_duck=0.5, drain=5.0, stop=2.0)
    health = Health("backend", lifecycle=life)
    serve(HealthMiddleware(work, health=health), lifecycle=life, health=health, **options)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
