"""One instance of the service: registered while it serves, gone before it stops.

usage: instance.py STORE_URL
"""

from __future__ import annotations

import asyncio
import sys
import threading

from hastack import discovery
from hastack.lifecycle import Lifecycle

ill = threading.Event()  # set by the word "ill" on standard input


def healthy() -> bool:
    return not ill.is_set()


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\n")
    writer.close()


async def main(url: str) -> None:
    server = await asyncio.start_server(hello, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    life = Lifecycle("orders", lame_duck=0.6)
    registry = discovery.connect(url)

    async def close() -> None:
        server.close()

    life.add("server", drain=close)
    life.add(
        registry.register(
            "orders",
            f"{host}:{port}",
            ttl=2.0,
            lifecycle=life,
            health=discovery.Health(healthy, interval=0.1, fail_after=2, recover_after=2),
        ),
        depends_on=["server"],
    )
    threading.Thread(target=listen, daemon=True).start()
    async with registry:
        await life.run_async()


def listen() -> None:
    for word in sys.stdin:
        (ill.set if word.strip() == "ill" else ill.clear)()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
