"""gRPC servers as lifecycle components, synchronous and asyncio.

Draining refuses new calls and lets those in flight end; what still runs at the end of the drain
time is cancelled. Together with `hastack.contrib.grpc_health`, clients that watch health leave
during the lame duck.

Example::

    life = Lifecycle("orders")
    server = grpc.server(ThreadPoolExecutor(16))
    add_health(server, health, services=["orders.v1.Orders"])
    server.add_insecure_port("127.0.0.1:50051")
    life.add(GrpcServer(server, depends_on=["db"]))
    life.run()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from hastack import context
from hastack._core import _validate
from hastack._core._extras import require

require("grpc", extra="grpc")

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("AioGrpcServer", "GrpcServer")


@final
class GrpcServer:
    """A ``grpc.Server`` as a component: give it to `Lifecycle.add`.

    Args:
        server: The server, with its handlers and ports, not started.
        name: Name of the component.
        depends_on: Components that must be up before the first call.
    """

    def __init__(self, server: Any, *, name: str = "grpc", depends_on: Iterable[str] = ()) -> None:
        self.name = _validate.text("name", name)
        self.depends_on = tuple(depends_on)
        self._server = server

    def start(self) -> None:
        """Listen."""
        self._server.start()

    def drain(self) -> None:
        """Refuse new calls and wait for those in flight."""
        # The deadline of the drain phase is current here; grpc cancels what is left by then.
        self._server.stop(context.current().remaining()).wait()

    def stop(self) -> None:
        """Cancel what is left."""
        self._server.stop(None).wait(context.current().remaining())


@final
class AioGrpcServer:
    """A ``grpc.aio.Server`` as a component; see `GrpcServer` for the arguments."""

    def __init__(self, server: Any, *, name: str = "grpc", depends_on: Iterable[str] = ()) -> None:
        self.name = _validate.text("name", name)
        self.depends_on = tuple(depends_on)
        self._server = server

    async def start(self) -> None:
        """Listen."""
        await self._server.start()

    async def drain(self) -> None:
        """Refuse new calls and wait for those in flight."""
        await self._server.stop(context.current().remaining())

    async def stop(self) -> None:
        """Cancel what is left."""
        await self._server.stop(None)
