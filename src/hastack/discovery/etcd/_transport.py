"""Calls and streams to a cluster from one event loop: failover, retries, tokens, deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Any, final

from hastack._core._cancel import BACKGROUND, _current
from hastack._core._errors import ClosedError, RequestTooLarge
from hastack._core._validate import seconds
from hastack.context import with_cancel

from . import _wire
from ._attempts import Attempts, NotSent, Unheard, final_error, left, raise_if_ended
from ._channel import load
from ._lines import Lines
from ._stream import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hastack._core._cancel import Context

    from ._channel import Line
    from ._shared import Shared

_OPENINGS = 8  # streams that one client opens at once; the others queue
_LONGEST_PAUSE = 2.0  # seconds before a stream is opened anew, drawn evenly from zero
_PROBE = 2.0  # seconds that an endpoint which had failed has for its first answer


@final
class Transport:
    """One client's connections on one event loop. Made by `Client._transport`."""

    def __init__(self, shared: Shared, loop: asyncio.AbstractEventLoop) -> None:
        self._shared = shared
        self._loop = loop
        self._grpc = load()
        self._lines = Lines(shared, loop)
        self._login_turn = asyncio.Lock()
        self._opening = asyncio.Semaphore(_OPENINGS)
        self._stream_failures = 0
        self._probes: set[asyncio.Task[None]] = set()

    async def call(
        self,
        method: str,
        request: Any,
        *,
        timeout: float | None = None,
        idempotent: bool = False,
        endpoint: str | None = None,
    ) -> Any:
        """Send a request and hand out the answer.

        Args:
            method: Path of a method with one request and one answer; see `_wire`.
            request: Its message.
            timeout: Seconds for everything, retries included; the client's by default. The
                remaining time of the current context bounds it.
            idempotent: Whether it may be sent again when nobody knows if it was applied.
            endpoint: Ask this endpoint and no other.

        Raises:
            ContextError: The current context ended.
            StoreTimeout: No answer in time.
            StoreUnavailable: No endpoint could answer.
            StoreError: The answer is an error; `_status` says which.
            ClosedError: The client was closed.
        """
        shared = self._shared
        ctx = _current.get()
        if ctx is not BACKGROUND:
            ctx.check()
        asked = time.monotonic()
        ends = self._end(asked, timeout)
        data = request.SerializeToString()
        if len(data) > shared.options.max_request_bytes:
            raise RequestTooLarge("bytes", len(data), shared.options.max_request_bytes)
        shared.budget.count_call()
        one = _Try(self, method, data, ctx, ends, idempotent=idempotent)
        address = endpoint or shared.endpoints.first()
        attempts: Attempts | None = None
        untried = 1 if endpoint else len(shared.endpoints.addresses)
        while True:
            failure = await one.at(address, untried)
            if failure is None:
                if not shared.endpoints.all_well:
                    shared.endpoints.succeeded(address)
                    self._probe_soon()
                shared.trouble = None
                return _wire.response(method).FromString(one.answer)
            if attempts is None:
                attempts = Attempts(
                    self,
                    ctx,
                    asked,
                    ends,
                    idempotent=idempotent,
                    pinned=endpoint is not None,
                )
            try:
                address = await attempts.next(address, failure, one.metadata, asked)
            finally:
                del failure  # its traceback holds this frame
            untried = attempts.untried()
            asked = time.monotonic()

    def _end(self, began: float, timeout: float | None) -> float:
        """When a call that began at ``began`` has to have ended."""
        if timeout is None:
            return began + self._shared.options.timeout
        return began + seconds("timeout", timeout, zero=True)

    async def stream(
        self,
        method: str,
        *,
        require_leader: bool = False,
        timeout: float | None = None,
        endpoint: str | None = None,
    ) -> Stream:
        """Open a stream in both directions.

        It counts as open when the endpoint is connected: etcd says nothing until it is asked. At
        most eight are opened at once, and after failures each waits a random moment first, so that
        a cluster that comes back is not overrun.

        Args:
            method: Path of a method that streams in both directions.
            require_leader: Have the server end the stream when it loses its leader.
            timeout: Seconds for opening it; the client's timeout by default.
            endpoint: Open it there and nowhere else.

        Raises:
            StoreUnavailable: No endpoint could be reached in time.
            NotAuthorized: The user is not accepted.
            ClosedError: The client was closed.
        """
        shared = self._shared
        ctx = _current.get()
        ctx.check()
        began = time.monotonic()
        ends = self._end(began, timeout)
        attempts = Attempts(self, ctx, began, ends, idempotent=True, pinned=endpoint is not None)
        address = endpoint or shared.endpoints.first()
        async with self._opening:
            if self._stream_failures:
                pause = 0.05 * 2.0 ** min(self._stream_failures, 10)
                # A short timeout says that whoever opens it cannot wait: a lease is running out.
                await self._lines.rest(
                    address, random.random() * min(pause, _LONGEST_PAUSE, left(ctx, ends) / 4)
                )
            while True:
                asked = time.monotonic()
                metadata = shared.metadata
                try:
                    line = self._lines.to(address)
                    metadata = await self._ready(line, ctx, left(ctx, ends) / attempts.untried())
                    if line.channel.get_state(True) is not self._grpc.READY:
                        raise NotSent("UNAVAILABLE", f"failed to connect to {address}")
                    carried = (*metadata, ("hasleader", "true")) if require_leader else metadata
                    call = line.stream(method, both=True)(metadata=carried)
                    return Stream(self, line, call, metadata)
                except self._grpc.Error as error:
                    failure: Exception = error
                except NotSent as error:
                    failure = error
                except self._grpc.UsageError as error:
                    raise ClosedError("etcd client") from error
                address = await attempts.next(address, failure, metadata, asked)

    async def download(
        self, method: str, request: Any, endpoint: str, *, timeout: float | None = None
    ) -> AsyncIterator[Any]:
        """The messages that one endpoint streams in answer to ``request``.

        Leaving the iterator early ends the stream. Nothing is tried a second time.

        Args:
            method: Path of a method that streams its answers.
            request: Its message.
            endpoint: Who is asked.
            timeout: Seconds for the whole of it; the current context alone bounds it by default.

        Raises:
            ContextError: The current context ended.
            StoreError: The stream ended before its time; see `_status`.
        """
        shared, grpc = self._shared, self._grpc
        ctx = _current.get()
        ctx.check()
        began = time.monotonic()
        ends = began + (1e9 if timeout is None else timeout)
        call = None
        try:
            line = self._lines.to(endpoint)
            metadata = await self._ready(line, ctx, min(left(ctx, ends), shared.options.timeout))
            call = line.stream(method, both=False)(
                request, timeout=left(ctx, ends), metadata=metadata
            )
            while (message := await self._tied(call.read(), ctx, call)) is not grpc.EOF:
                yield message
        except grpc.UsageError as error:
            raise ClosedError("etcd client") from error
        except asyncio.CancelledError:
            self._raise_if_ours(ctx)
            raise
        except (grpc.Error, NotSent) as error:
            raise_if_ended(ctx, error)
            raise final_error(error, endpoint) from error
        finally:
            if call is not None:
                call.cancel()

    async def server_version(self, endpoint: str) -> tuple[int, int, int]:
        """The version of the server at ``endpoint``; asked once until that endpoint fails."""
        found = self._shared.versions.get(endpoint)
        if found is None:
            status = await self.call(
                _wire.STATUS, _wire.StatusRequest(), idempotent=True, endpoint=endpoint
            )
            found = self._shared.versions[endpoint] = _version(status.version)
        return found

    def forget_token(self) -> None:
        """The server does not accept the token any more; the next call asks for a new one."""
        self._shared.forget_token(self._shared.metadata)

    async def aclose(self) -> None:
        """End all calls and streams and close the connections."""
        for probe in self._probes:
            probe.cancel()
        await self._lines.aclose()

    async def rest(self, seconds: float) -> None:
        """Pause before a stream is opened again; no longer than until a connection is back."""
        await self._lines.rest(self._shared.endpoints.first(), seconds)

    # The steps of a call

    async def _ready(
        self, line: Line, ctx: Context, patience: float
    ) -> tuple[tuple[str, str], ...]:
        """Connect, if need be, and hand out what calls carry; given up when ``ctx`` ends."""
        async with with_cancel(ctx):
            await self._connect(line, patience)
            metadata = self._shared.metadata
            return await self._login(line, patience) if metadata is None else metadata

    async def _connect(self, line: Line, patience: float) -> None:
        """Wait until the channel is connected or has failed to.

        A request that is sent on a failed channel comes back at once, with the reason.
        """
        channel, grpc = line.channel, self._grpc
        settled = (grpc.READY, grpc.TRANSIENT_FAILURE, grpc.SHUTDOWN)
        try:
            async with asyncio.timeout(patience):
                while (state := channel.get_state(True)) not in settled:
                    await channel.wait_for_state_change(state)
        except TimeoutError:
            raise NotSent("UNAVAILABLE", f"not connected within {patience:.3g} s") from None

    async def _login(self, line: Line, patience: float) -> tuple[tuple[str, str], ...]:
        """Ask for a token, unless another call has just got one."""
        shared = self._shared
        options = shared.options
        async with self._login_turn:
            if shared.metadata is not None:
                return shared.metadata
            assert options.password is not None
            request = _wire.AuthenticateRequest(
                name=options.user, password=options.password.reveal()
            )
            try:
                data = await line.unary(_wire.AUTHENTICATE)(
                    request.SerializeToString(), timeout=patience
                )
            except self._grpc.Error as error:
                code, details = error.code().name, error.details() or ""
                if code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
                    raise NotSent("UNAVAILABLE", f"no token: {details}") from error
                if "authentication is not enabled" not in details:
                    raise
                metadata: tuple[tuple[str, str], ...] = ()
            else:
                token = _wire.AuthenticateResponse.FromString(data).token
                metadata = (("token", token),)
            shared.metadata = metadata
            return metadata

    async def _tied(self, step: Any, ctx: Context, call: Any) -> Any:
        """Await a step of ``call``, which is cancelled with ``ctx``."""
        loop = self._loop

        def cancel() -> None:
            try:
                loop.call_soon_threadsafe(call.cancel)
            except RuntimeError:
                pass  # the loop is closed, and the call with it

        stop = ctx._watch(cancel)  # the deadline is in grpc's hands already
        try:
            return await step
        finally:
            stop()

    def _raise_if_ours(self, ctx: Context) -> None:
        """Replace a cancellation that is not the task's own by what was behind it."""
        if _is_cancelled():
            return
        ended = ctx.err()
        if ended is not None:
            raise ended
        if self._shared.closed:
            raise ClosedError("etcd client")

    # The health of endpoints

    def _probe_soon(self) -> None:
        """See whether an endpoint that failed answers again, if one is due."""
        address = self._shared.endpoints.to_probe(time.monotonic())
        if address is not None and not self._shared.closed:
            probe = self._loop.create_task(self._probe(address), name=f"etcd probe of {address}")
            self._probes.add(probe)
            probe.add_done_callback(self._probes.discard)

    async def _probe(self, address: str) -> None:
        """Any answer will do."""
        line = self._lines.to(address)
        with contextlib.suppress(NotSent, self._grpc.UsageError):
            await self._connect(line, _PROBE)
            try:
                await line.unary(_wire.STATUS)(b"", timeout=_PROBE)  # a StatusRequest
            except self._grpc.Error as error:
                if error.code().name in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}:
                    return
            self._shared.endpoints.succeeded(address)


@final
class _Try:
    """A request of one call, sent to one endpoint after the other.

    Attributes:
        metadata: What the last try carried; ``None`` when it had no token yet.
        answer: What came back.
    """

    __slots__ = (
        *("_ctx", "_data", "_ends", "_idempotent", "_method", "_transport"),
        *("answer", "metadata"),
    )

    def __init__(
        self,
        transport: Transport,
        method: str,
        data: bytes,
        ctx: Context,
        ends: float,
        *,
        idempotent: bool,
    ) -> None:
        self._transport = transport
        self._method = method
        self._data = data
        self._ctx = ctx
        self._ends = ends
        self._idempotent = idempotent
        self.metadata: tuple[tuple[str, str], ...] | None = None
        self.answer = b""

    async def at(self, address: str, untried: int) -> Exception | None:
        """Send it to ``address``, one of ``untried`` ones; why there is no answer, if so."""
        transport, ctx = self._transport, self._ctx
        grpc = transport._grpc
        line = transport._lines.to(address)
        try:
            self.metadata = metadata = transport._shared.metadata
            if metadata is None or line.channel.get_state(True) is not grpc.READY:
                patience = left(ctx, self._ends) / untried
                self.metadata = await transport._ready(line, ctx, patience)
            await self._send(line, untried)
        except grpc.Error as error:
            if error.code() is not grpc.DEADLINE_EXCEEDED:
                line.since = None  # an answer all the same, or there is no connection
            return error  # type: ignore[no-any-return]  # grpc has no types
        except NotSent as error:
            return error
        except grpc.UsageError as error:
            if line.silent:
                return NotSent("UNAVAILABLE", "the connection was replaced")
            raise ClosedError("etcd client") from error
        except asyncio.CancelledError:
            transport._raise_if_ours(ctx)
            if line.silent and not _is_cancelled():
                return Unheard()
            raise
        return None

    async def _send(self, line: Line, untried: int) -> None:
        transport, ctx = self._transport, self._ctx
        limit = left(ctx, self._ends)
        if self._idempotent and untried > 1:
            limit /= untried
        call = line.unary(self._method)(self._data, timeout=limit, metadata=self.metadata)
        if line.since is None:
            transport._lines.asked(line)
        if self._idempotent:
            line.calls.add(call)
        try:
            self.answer = await (call if ctx is BACKGROUND else transport._tied(call, ctx, call))
        finally:
            line.calls.discard(call)
        line.since = None


def _is_cancelled() -> bool:
    """Whether a cancellation is the running task's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _version(text: str) -> tuple[int, int, int]:
    numbers = [int(part) for part in text.partition("-")[0].split(".") if part.isdecimal()]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch
