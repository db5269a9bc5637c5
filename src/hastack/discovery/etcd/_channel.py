"""Channels of grpc.aio to single endpoints. grpc comes in with the first connection."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, final

from hastack._core._errors import ForkUnsafe
from hastack._core._extras import require_grpc

from . import _wire

if TYPE_CHECKING:
    import asyncio

    from ._options import TLS

# 10 s and 3 s find a dead peer in 13 s. etcd answers pings more often than one in 5 s
# (--grpc-keepalive-min-time), and pings on a connection without calls, with GOAWAY.
_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", -1),  # a range may be larger than gRPC's 4 MB
    ("grpc.max_send_message_length", -1),  # the server says what is too large for it
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # and so long may connecting take
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),  # every channel has a connection of its own
    ("grpc.service_config_disable_resolution", 1),  # no TXT queries
    # Filters that nobody uses here cost a tenth of a call's time: only these two are wanted.
    ("grpc.minimal_stack", 1),
    ("grpc.enable_deadline_checking", 1),
    ("grpc.enable_retries", 1),  # of calls that a closing connection had not taken yet
    ("grpc.enable_http_proxy", 0),  # a cluster's store is not behind the way to the internet
)


@final
class Grpc:
    """The parts of grpc that are used.

    Raises:
        MissingDependency: grpc is not installed.
    """

    def __init__(self) -> None:
        grpc: Any
        aio: Any
        grpc, aio = require_grpc(extra="etcd")
        self.Error: Any = aio.AioRpcError
        self.EOF = aio.EOF
        self.UsageError: Any = aio.UsageError
        self.READY = grpc.ChannelConnectivity.READY
        self.TRANSIENT_FAILURE = grpc.ChannelConnectivity.TRANSIENT_FAILURE
        self.DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED
        self.SHUTDOWN = grpc.ChannelConnectivity.SHUTDOWN
        self._grpc = grpc
        self._aio = aio

    def channel(self, address: str, tls: TLS | None) -> Any:
        """A channel to ``address`` on the running loop; it connects when it is first used.

        Raises:
            ForkUnsafe: The parent process had channels when this one was forked.
        """
        global _used
        if _spoiled:
            raise ForkUnsafe
        _used = True
        if tls is None:
            return self._aio.insecure_channel(address, options=_OPTIONS)
        options = _OPTIONS
        if tls.server_name is not None:
            options = (*options, ("grpc.ssl_target_name_override", tls.server_name))
        credentials = self._grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
        return self._aio.secure_channel(address, credentials, options=options)


_grpc: Grpc | None = None


def load() -> Grpc:
    """Grpc and the messages, imported when first asked for: some 60 ms."""
    global _grpc
    if _grpc is None:
        _grpc = Grpc()
        _wire.response(_wire.RANGE)
    return _grpc


def loaded() -> bool:
    """Whether `load` has nothing to do any more."""
    return _grpc is not None


# A child that is forked while grpc.aio has a channel open has its locks without its threads: using
# it there kills or hangs the process (measured with 1.85: SIGSEGV, "Check failed", deadlock).
_open: weakref.WeakSet[Line] = weakref.WeakSet()
_inherited: list[object] = []  # kept from their destructors, which would run into the same
_spoiled = False
_used = False  # since the last fork, a channel was made
_lingering = False  # at the last fork, gRPC had threads although no channel was open: see `_fork`


def _after_fork() -> None:
    global _spoiled
    if _open or _lingering:
        _spoiled = True
        _inherited.extend(_open)
        _open.clear()


os.register_at_fork(after_in_child=_after_fork)


@final
class Line:
    """One channel to one endpoint, and its methods.

    Attributes:
        calls: Calls under way that may be given up, as they may be repeated.
        since: Since when it owes an answer, whichever; ``None`` when it was heard since.
        silent: It was given up because nothing was heard.
        timer: For `Lines`: when to look whether it still owes an answer.
        doubted: For `Lines`: it is being asked whether it is there.
    """

    __slots__ = (
        *("__weakref__", "address", "calls", "channel", "doubted", "methods"),
        *("silent", "since", "timer"),
    )

    def __init__(self, address: str, channel: Any) -> None:
        self.address = address
        self.channel = channel
        self.methods: dict[str, Any] = {}
        self.calls: set[Any] = set()
        self.since: float | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.silent = self.doubted = False
        _open.add(self)

    async def aclose(self, *, grace: float | None = None) -> None:
        """Close the channel; what waits on it is cancelled, after ``grace`` seconds."""
        if self.timer is not None:
            self.timer.cancel()
        await self.channel.close(grace)
        _open.discard(self)

    def unary(self, method: str) -> Any:
        """The callable for a method with one request and one answer, both as bytes."""
        found = self.methods.get(method)
        if found is None:
            found = self.methods[method] = self.channel.unary_unary(method)
        return found

    def stream(self, method: str, *, both: bool) -> Any:
        """The callable for a method that streams its answers, or with ``both`` requests as well."""
        kind = self.channel.stream_stream if both else self.channel.unary_stream
        return kind(
            method,
            request_serializer=_serialize,
            response_deserializer=_wire.response(method).FromString,
        )


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
