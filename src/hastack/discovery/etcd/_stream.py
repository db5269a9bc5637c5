"""One open stream to one endpoint."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, final

from hastack._core._errors import ClosedError, StoreUnavailable

from ._attempts import Unheard, final_error
from ._status import Verdict, judge

if TYPE_CHECKING:
    from ._channel import Line
    from ._transport import Transport


@final
class Stream:
    """Requests in, answers out, until one side ends it.

    One task may read while another writes. Cancelling a task inside `read` or `write` ends the
    whole stream: grpc has no other way to give up a pending operation. To wait for an answer only
    so long, keep one reading task and wait for what it hands on.

    Attributes:
        endpoint: Who is on the other end.
    """

    __slots__ = ("_call", "_line", "_metadata", "_read_any", "_transport", "endpoint")

    def __init__(self, transport: Transport, line: Line, call: Any, metadata: Any) -> None:
        self.endpoint = line.address
        self._line = line
        self._transport = transport
        self._call = call
        self._metadata = metadata
        self._read_any = False
        line.calls.add(call)
        call.add_done_callback(line.calls.discard)

    async def write(self, message: Any) -> None:
        """Send a message.

        Raises:
            StoreError: The stream has ended; the error is the one that `read` raises.
        """
        try:
            await self._call.write(message)
        except (self._transport._grpc.Error, asyncio.InvalidStateError) as error:
            raise await self._error(error) from error
        except asyncio.CancelledError as error:
            raise self._cancelled(error) from None

    async def read(self) -> Any:
        """The next message.

        Raises:
            StoreUnavailable: The connection is gone, or the server ended the stream.
            NotAuthorized: The token is not accepted any more; a new stream gets a new one.
            StoreError: Another error of the server.
            ClosedError: The stream or the client was closed here.
        """
        try:
            message = await self._call.read()
        except (self._transport._grpc.Error, asyncio.InvalidStateError) as error:
            raise await self._error(error) from error
        except asyncio.CancelledError as error:
            raise self._cancelled(error) from None
        if message is self._transport._grpc.EOF:
            self._failed()
            raise StoreUnavailable("the server ended the stream", code="OK", endpoint=self.endpoint)
        if not self._read_any:
            self._read_any = True
            self._transport._stream_failures = 0
            self._transport._shared.endpoints.succeeded(self.endpoint)
        return message

    def give_up(self) -> None:
        """End the stream, which should have said something, and see whether the server is there."""
        self._transport._shared.missed(self.endpoint)
        self._transport._lines.doubt(self._line)
        self.cancel()

    def cancel(self) -> None:
        """End the stream at once; pending reads and writes raise `ClosedError`."""
        self._call.cancel()

    async def aclose(self) -> None:
        """End the stream and wait until it has ended."""
        self._call.cancel()
        try:
            await self._call.code()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise

    async def _error(self, error: Exception) -> Exception:
        failure: Any = error
        if isinstance(error, asyncio.InvalidStateError):  # written to after its end
            if self._call.cancelled() and not self._line.silent:
                return ClosedError("etcd stream")
            code, details = (await self._call.code()).name, await self._call.details() or ""
            failure = self._transport._grpc.Error(
                await self._call.code(), None, None, details=details
            )
        else:
            code, details = failure.code().name, failure.details() or ""
        verdict = judge(code, details)
        if verdict is Verdict.LOGIN:
            self._transport._shared.forget_token(self._metadata)
        elif verdict in {Verdict.ELSEWHERE, Verdict.UNSURE}:
            self._failed()
        return final_error(failure, self.endpoint)

    def _failed(self) -> None:
        self._transport._stream_failures += 1
        self._transport._shared.missed(self.endpoint)

    def _cancelled(self, error: asyncio.CancelledError) -> BaseException:
        """What to raise for a cancellation that may not be the task's own."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return error
        if self._line.silent:
            self._failed()
            return final_error(Unheard(), self.endpoint)
        return ClosedError("etcd stream")
