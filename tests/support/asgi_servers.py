"""A dashboard, or any ASGI application, under uvicorn on a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

TOKEN = "a-token-of-some-length"
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@contextlib.contextmanager
def served(app, *, port: int = 0) -> Iterator[int]:
    """The application under uvicorn, on a port that is bound before anybody connects."""
    sock = socket.create_server(("127.0.0.1", port))
    import uvicorn

    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, lifespan="on")
    server = uvicorn.Server(config)

    async def serve() -> None:
        await server.serve(sockets=[sock])

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30.0)
        sock.close()
        assert not thread.is_alive()
