"""Client-side balancing for gRPC: channels that send each call to an instance of a service.

They are ordinary channels to generated stubs. Each call goes to the instance that the balancer
picks; instances come and go without a call being lost.

Example:
    >>> from hastack.contrib import grpc_balance
    >>> from hastack.discovery.balance import Balancer
    >>> orders = Balancer("orders")  # .follow(registry)
    >>> with grpc_balance.channel(orders) as channel:
    ...     get = channel.unary_unary("/shop.Orders/Get")  # or OrdersStub(channel)
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeAlias, final

from hastack._core._errors import ClosedError, ContextError, DeadlineExceeded, InvalidArgument
from hastack._core._extras import require
from hastack.discovery.balance import Balancer

from ._balanced import ServerFailed
from ._grpc_calls import FAILURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from hastack.discovery.balance import Pick

# grpc ships no types; whether stubs are installed must not matter here.
grpc: Any = require("grpc", extra="grpc")
aio: Any = require("grpc.aio", extra="grpc")

__all__ = ("aio_channel", "channel")

Key: TypeAlias = "Callable[[str, Any], str | bytes | int | None]"


def channel(
    balancer: Balancer,
    *,
    connect: Callable[[str], Any] | None = None,
    key: Key | None = None,
) -> Any:
    """A `grpc.Channel` over the instances of a service, for synchronous stubs.

    A call is in flight until it ends. UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL, UNKNOWN and
    DATA_LOSS count against the instance, other codes are answers.

    Args:
        balancer: Who chooses.
        connect: Makes the channel to an address; default: `grpc.insecure_channel`. Give one for
            credentials, options and interceptors.
        key: Key of a call from its method's path and its metadata, for `ConsistentHash`.

    Raises:
        InvalidArgument: ``balancer`` is none.
        NoInstance: (from calls) The service has no instance.
        ClosedError: (from calls) The channel was closed.
    """
    return _Channel(_checked(balancer), connect or grpc.insecure_channel, key)


def aio_channel(
    balancer: Balancer,
    *,
    connect: Callable[[str], Any] | None = None,
    key: Key | None = None,
) -> Any:
    """The same as `channel` for asyncio stubs: a `grpc.aio.Channel`.

    Make and use it on one event loop, as every channel of `grpc.aio`.
    """
    return _AioChannel(_checked(balancer), connect or aio.insecure_channel, key)


def _checked(balancer: Balancer) -> Balancer:
    if not isinstance(balancer, Balancer):
        raise InvalidArgument("balancer", balancer, "a hastack.discovery.balance.Balancer")
    return balancer


class _Connection:
    """The real channel to one address, with the callables made on it."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.callables: dict[_Callable, Any] = {}
        self.calls = 0


class _Connections:
    """The real channels, by address; those of instances that are gone close with their last call."""

    def __init__(self, balancer: Balancer, connect: Callable[[str], Any], key: Key | None) -> None:
        self._balancer = balancer
        self._connect = connect
        self._key = key
        self._lock = threading.Lock()
        self._open: dict[str, _Connection] | None = {}

    def begin(self, call: _Callable, metadata: Any) -> tuple[Pick, _Connection, Any]:
        """Choose an instance: the pick, its connection, and ``call`` on that connection."""
        key = None if self._key is None else self._key(call.method, metadata)
        pick = self._balancer.pick(key=key)
        try:
            with self._lock:
                if self._open is None:
                    raise ClosedError(f"channel to {self._balancer.service}")
                connection = self._open.get(pick.address)
                if connection is None:
                    connection = self._open[pick.address] = _Connection(self._connect(pick.address))
                found = connection.callables.get(call)
                if found is None:
                    found = connection.callables[call] = call.on(connection.real)
                connection.calls += 1
        except BaseException:
            pick.release()
            raise
        return pick, connection, found

    def end(self, connection: _Connection) -> list[Any]:
        """A call ended: the real channels that nobody needs any more, to be closed."""
        with self._lock:
            connection.calls -= 1
            if self._open is None:
                return []
            wanted = {endpoint.instance.address for endpoint in self._balancer.endpoints}
            if len(self._open) <= len(wanted):
                return []
            gone = [a for a, c in self._open.items() if a not in wanted and c.calls == 0]
            return [self._open.pop(address).real for address in gone]

    def close(self) -> list[Any]:
        """All real channels; further calls are refused."""
        with self._lock:
            found, self._open = self._open, None
        return [connection.real for connection in (found or {}).values()]


class _Callable:
    """One method of a stub, on whichever connection."""

    def __init__(self, connections: _Connections, kind: str, method: str, options: Any) -> None:
        self._connections = connections
        self._kind = kind
        self.method = method
        self._options = options

    def on(self, real: Any) -> Any:
        """The method on one real channel."""
        args, kwargs = self._options
        return getattr(real, self._kind)(self.method, *args, **kwargs)


def _settle(pick: Pick, code: Any) -> None:
    if code is grpc.StatusCode.CANCELLED:
        pick.release()
    else:
        pick.done(ServerFailed(str(code)) if code in FAILURES else None)


# -- threads ------------------------------------------------------------------------------


class _SyncCallable(_Callable):
    def _run(self, how: str, request: Any, timeout: Any, metadata: Any, options: Any) -> Any:
        """Wait for the call to end."""
        pick, connection, real = self._connections.begin(self, metadata)
        try:
            result = getattr(real, how)(request, timeout, metadata, **options)
        except grpc.RpcError as error:
            _settle(pick, error.code())
            raise
        except BaseException:
            pick.release()
            raise
        else:
            pick.done()
        finally:
            self._finish(connection)
        return result

    def _start(self, how: str, request: Any, timeout: Any, metadata: Any, options: Any) -> Any:
        """Begin the call and be told of its end."""
        pick, connection, real = self._connections.begin(self, metadata)
        try:
            call = getattr(real, how)(request, timeout, metadata, **options)
        except BaseException:
            pick.release()
            self._finish(connection)
            raise

        def ended(*_: Any) -> None:
            _settle(pick, call.code())
            self._finish(connection)

        if how == "future":
            call.add_done_callback(ended)
        elif not call.add_callback(ended):
            ended()
        return call

    def _finish(self, connection: _Connection) -> None:
        for real in self._connections.end(connection):
            real.close()


class _ToUnary(_SyncCallable):
    def __call__(self, request: Any, timeout: Any = None, metadata: Any = None, **rest: Any) -> Any:
        return self._run("__call__", request, timeout, metadata, rest)

    def with_call(
        self, request: Any, timeout: Any = None, metadata: Any = None, **rest: Any
    ) -> Any:
        return self._run("with_call", request, timeout, metadata, rest)

    def future(self, request: Any, timeout: Any = None, metadata: Any = None, **rest: Any) -> Any:
        return self._start("future", request, timeout, metadata, rest)


class _ToStream(_SyncCallable):
    def __call__(self, request: Any, timeout: Any = None, metadata: Any = None, **rest: Any) -> Any:
        return self._start("__call__", request, timeout, metadata, rest)


@final
class _Channel(grpc.Channel):  # type: ignore[misc]  # a class without types
    def __init__(self, balancer: Balancer, connect: Callable[[str], Any], key: Key | None) -> None:
        self._connections = _Connections(balancer, connect, key)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _ToUnary(self._connections, "unary_unary", method, (args, kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _ToStream(self._connections, "unary_stream", method, (args, kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _ToUnary(self._connections, "stream_unary", method, (args, kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _ToStream(self._connections, "stream_stream", method, (args, kwargs))

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        """There is no one state of many connections to tell of: it is always READY."""
        callback(grpc.ChannelConnectivity.READY)

    def unsubscribe(self, callback: Any) -> None:
        pass

    def close(self) -> None:
        for real in self._connections.close():
            real.close()

    def __enter__(self) -> _Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _code(call: Any) -> Any:
    """How a call of `grpc.aio` ended; with interceptors, asking raises what one of them raised."""
    try:
        return await call.code()
    except (DeadlineExceeded, TimeoutError):
        return grpc.StatusCode.DEADLINE_EXCEEDED
    except (ContextError, asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED
    except Exception:
        return grpc.StatusCode.UNKNOWN


# -- asyncio ------------------------------------------------------------------------------


class _AioCallable(_Callable):
    def __init__(
        self,
        connections: _Connections,
        kind: str,
        method: str,
        options: Any,
        tasks: set[asyncio.Task[None]],
    ) -> None:
        super().__init__(connections, kind, method, options)
        self._tasks = tasks

    def __call__(self, *args: Any, metadata: Any = None, **rest: Any) -> Any:
        pick, connection, real = self._connections.begin(self, metadata)
        try:
            call = real(*args, metadata=metadata, **rest)
        except BaseException:
            pick.release()
            self._connections.end(connection)
            raise

        async def settle() -> None:
            _settle(pick, await _code(call))
            for gone in self._connections.end(connection):
                await gone.close()

        def ended(_: Any) -> None:
            task = asyncio.get_running_loop().create_task(settle())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        call.add_done_callback(ended)
        return call


@final
class _AioChannel(aio.Channel):  # type: ignore[misc]  # a class without types
    def __init__(self, balancer: Balancer, connect: Callable[[str], Any], key: Key | None) -> None:
        self._connections = _Connections(balancer, connect, key)
        self._tasks: set[asyncio.Task[None]] = set()

    def _callable(self, kind: str, method: str, args: Any, kwargs: Any) -> Any:
        return _AioCallable(self._connections, kind, method, (args, kwargs), self._tasks)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._callable("unary_unary", method, args, kwargs)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._callable("unary_stream", method, args, kwargs)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._callable("stream_unary", method, args, kwargs)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._callable("stream_stream", method, args, kwargs)

    def get_state(self, try_to_connect: bool = False) -> Any:
        """There is no one state of many connections: it is always READY."""
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: Any) -> None:
        if last_observed_state is grpc.ChannelConnectivity.READY:
            await asyncio.get_running_loop().create_future()  # it never changes

    async def channel_ready(self) -> None:
        """At once."""

    async def close(self, grace: float | None = None) -> None:
        for real in self._connections.close():
            await real.close(grace)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    async def __aenter__(self) -> _AioChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
