"""Health checks of an instance that registers: TCP, HTTP, gRPC, or a function.

A probe runs next to the service, from the process that registers it, so that an instance which
cannot serve takes itself out of everybody's view. One answer does not decide, see `Health`.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Protocol, final
from urllib.parse import urlsplit

from hastack._core import _validate
from hastack._core._callables import Kind, kind_of
from hastack._core._errors import DiscoveryError, InvalidArgument
from hastack._core._extras import require_grpc

from ._probe_verdict import Thresholds
from ._registry_threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hastack._core._validate import Seconds

__all__ = ("GrpcHealth", "Health", "Http", "Probe", "ProbeFailed", "Tcp")

_LINE = 4096  # bytes of a status line; more is no HTTP


class ProbeFailed(DiscoveryError):
    """A health check said no."""


class Probe(Protocol):
    """One question to an instance."""

    async def __call__(self) -> object:
        """Return, or raise to say that it cannot serve; ``False`` says so too."""
        ...


def _host_and_port(parameter: str, host: object, port: object) -> tuple[str, int]:
    name = _validate.text(parameter, host)
    number = _validate.integer("port", port)
    if number > 65535:
        raise InvalidArgument("port", port, "a port number")
    return name, number


@final
class Tcp:
    """Whether something accepts a connection.

    Args:
        host: Name or address.
        port: Port number.

    Raises:
        InvalidArgument: They are no host and port.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = _host_and_port("host", host, port)

    def __repr__(self) -> str:
        return f"Tcp({self.host!r}, {self.port})"

    async def __call__(self) -> None:
        _, writer = await asyncio.open_connection(self.host, self.port)
        writer.close()


@final
class Http:
    """Whether a GET is answered with the right status. Redirects are not followed.

    Args:
        url: ``http`` or ``https`` URL.
        status: Accepted status codes; any from 200 to 399 by default.
        ssl_context: An ``ssl.SSLContext`` for ``https``; the system's trust by default.

    Raises:
        InvalidArgument: The URL is none.
    """

    def __init__(
        self, url: str, *, status: int | Iterable[int] | None = None, ssl_context: Any = None
    ) -> None:
        accepted = "an http:// or https:// URL with a host"
        try:
            parts = urlsplit(_validate.text("url", url))
            port = parts.port
        except ValueError:
            raise InvalidArgument("url", url, accepted) from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or set(url) & set("\r\n \t"):
            raise InvalidArgument("url", url, accepted)
        self.url = url
        self.status = (
            frozenset(range(200, 400))
            if status is None
            else frozenset((status,) if isinstance(status, int) else status)
        )
        self._host = parts.hostname
        self._tls = parts.scheme == "https"
        self._port = port or (443 if self._tls else 80)
        self._ssl = ssl_context
        path = parts.path or "/"
        self._request = (
            f"GET {path}{'?' + parts.query if parts.query else ''} HTTP/1.1\r\n"
            f"Host: {parts.netloc.rpartition('@')[2]}\r\n"
            "User-Agent: hastack-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        ).encode()

    def __repr__(self) -> str:
        return f"Http({self.url!r})"

    async def __call__(self) -> None:
        tls: Any = None
        if self._tls:
            import ssl

            tls = self._ssl or ssl.create_default_context()
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=tls, limit=_LINE)
        try:
            writer.write(self._request)
            await writer.drain()
            line = await reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ProbeFailed(f"{self.url} answered with no status line") from error
        finally:
            writer.transport.abort()
        version, _, rest = line.partition(b" ")
        code = rest[:3]
        if not version.startswith(b"HTTP/") or not code.isdigit():
            raise ProbeFailed(f"{self.url} answered with no status line: {line[:60]!r}")
        if int(code) not in self.status:
            raise ProbeFailed(f"{self.url} answered {int(code)}")


@final
class GrpcHealth:
    """Whether ``grpc.health.v1.Health/Check`` says SERVING. Needs the extra ``grpc``.

    Args:
        target: What gRPC connects to, ``"127.0.0.1:50051"`` for example.
        service: The service asked for; empty asks for the whole server.
        credentials: Channel credentials of grpc; without them the connection is in the clear.

    Raises:
        InvalidArgument: ``target`` is empty.
        MissingDependency: grpcio is not installed.
    """

    def __init__(self, target: str, *, service: str = "", credentials: Any = None) -> None:
        require_grpc(extra="grpc")
        self.target = _validate.text("target", target)
        self.service = service
        self._credentials = credentials

    def __repr__(self) -> str:
        return f"GrpcHealth({self.target!r}, service={self.service!r})"

    async def __call__(self) -> None:
        _, aio = require_grpc(extra="grpc")
        if self._credentials is None:
            channel = aio.insecure_channel(self.target)
        else:
            channel = aio.secure_channel(self.target, self._credentials)
        # A channel of its own each time: a connection that was made before proves little.
        async with channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            answer: bytes = await check(_health_request(self.service))
        status = _health_status(answer)
        if status != 1:
            word = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}.get(status, str(status))
            raise ProbeFailed(f"{self.target} says {word}")


def _health_request(service: str) -> bytes:
    """HealthCheckRequest: one string in field 1. The message is too small for a generated class."""
    name = service.encode()
    length, size = bytearray(), len(name)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return b"\x0a" + bytes(length) + name if name else b""


def _health_status(answer: bytes) -> int:
    """HealthCheckResponse: one enum in field 1; absent means 0."""
    return answer[1] if len(answer) >= 2 and answer[0] == 8 else 0


@final
class Health:
    """How often an instance is asked, and how many answers in a row turn the verdict.

    Args:
        probe: `Tcp`, `Http`, `GrpcHealth`, or a function, synchronous (run on a thread) or not.
            It says no by raising or by returning ``False``.
        interval: Seconds between two probes.
        timeout: Seconds for one probe; a late answer counts as no.
        fail_after: Failures in a row until the instance is unhealthy.
        recover_after: Successes in a row until it is healthy again.

    Raises:
        InvalidArgument: An argument is out of its range.

    Example:
        >>> from hastack.discovery import Health, Tcp
        >>> Health(Tcp("127.0.0.1", 8080), interval=2.0)
        Health(Tcp('127.0.0.1', 8080), interval=2, timeout=1, fail_after=3, recover_after=2)
    """

    def __init__(
        self,
        probe: Callable[[], Any],
        *,
        interval: Seconds = 5.0,
        timeout: Seconds = 1.0,
        fail_after: int = 3,
        recover_after: int = 2,
    ) -> None:
        given: object = probe
        if not callable(given) or isinstance(given, type):
            raise InvalidArgument("probe", probe, "Tcp, Http, GrpcHealth or a function")
        self.probe = probe
        self.interval = _validate.seconds("interval", interval)
        self.timeout = _validate.seconds("timeout", timeout)
        self.thresholds = Thresholds(fail_after=fail_after, recover_after=recover_after)

    def __repr__(self) -> str:
        return (
            f"Health({self.probe!r}, interval={self.interval:g}, timeout={self.timeout:g}, "
            f"fail_after={self.thresholds.fail_after}, "
            f"recover_after={self.thresholds.recover_after})"
        )


class Prober:
    """Asks one probe, in a way that suits it. Lives on the portal's loop.

    Args:
        health: What to ask.
        loop: Where the program's own coroutine functions run; on the portal without one.
    """

    def __init__(self, health: Health, loop: asyncio.AbstractEventLoop | None) -> None:
        self._health = health
        self._loop = loop
        self._ours = isinstance(health.probe, (Tcp, Http, GrpcHealth))
        self._blocked: asyncio.Future[Any] | None = None

    async def ask(self) -> BaseException | None:
        """Why it cannot serve; ``None`` when it can."""
        try:
            async with asyncio.timeout(self._health.timeout):
                result = await self._answer()
        except TimeoutError as error:
            if str(error):
                return error  # the probe's own
            return ProbeFailed(f"no answer within {self._health.timeout:g} s")
        except Exception as error:
            return error
        if result is False:
            return ProbeFailed("the check returned False")
        return None

    async def _answer(self) -> Any:
        probe = self._health.probe
        if kind_of(probe) is Kind.COROUTINE:
            return await self._at_home(probe())
        if self._blocked is not None and not self._blocked.done():
            # One thread per probe, however long it hangs.
            raise ProbeFailed("the check before is still running")
        self._blocked = in_thread(probe, name="hastack-probe")
        result = await asyncio.shield(self._blocked)
        if inspect.isawaitable(result):
            return await self._at_home(result)
        return result

    async def _at_home(self, awaitable: Any) -> Any:
        loop = self._loop
        if self._ours or loop is None or loop is asyncio.get_running_loop():
            return await awaitable

        async def run() -> Any:
            return await awaitable

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), loop))
