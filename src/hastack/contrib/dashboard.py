"""What is alive in this process, on one page: an ASGI application for browsers and programs.

One line shows everything that hastack holds here, limiters and breakers to eBPF objects and
plugins; nothing needs to be installed, built or reachable::

    app.mount("/dashboard", Dashboard(service="orders"))   # Starlette, FastAPI

Below where it is mounted: ``/`` is the page, ``/snapshot.json`` one `Snapshot`, ``/events`` a
stream of them, ``/actions`` takes actions when they are enabled. ``hastack top URL`` shows the
same in a terminal.

Example:
    >>> from hastack import ratelimit
    >>> from hastack.contrib.dashboard import Dashboard
    >>> api = ratelimit.TokenBucket("100/s", name="api")
    >>> with Dashboard(api, service="orders") as dashboard:
    ...     _ = dashboard.snapshot()
    ...     _ = api.try_acquire()
    ...     row = dashboard.snapshot().limiters[0]
    >>> row.name, row.state, row.allowed
    ('api', 'open', 1)
"""

from __future__ import annotations

import json
import logging
import time
import weakref
from typing import TYPE_CHECKING, Any, final

from hastack._core import _validate
from hastack._core._errors import HastackError, InvalidArgument
from hastack._core._fork import renew_in_child

from ._dashboard._access import LOOPBACK, bearer, foreign, known_host, same_token
from ._dashboard._actions import MAX_BODY, asked, perform
from ._dashboard._audit import ACTED, DashboardAction
from ._dashboard._document import Snapshot
from ._dashboard._observer import Observer
from ._dashboard._page import page
from ._dashboard._ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self, TypeAlias

    from hastack._core._validate import Seconds
    from hastack.config import Secret

    from ._asgi_answer import Receive, Scope, Send

    Who: TypeAlias = str | Secret | Callable[[Scope], Any]

__all__ = ("Dashboard", "DashboardAction", "Snapshot")

_log = logging.getLogger("hastack.dashboard")

_SHORTEST_TOKEN = 16
_STREAM_LASTS = 30.0  # seconds; a client connects again, and no server waits longer for one to end
_BODY_WITHIN = 5.0  # seconds for a request to send its body
_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


@final
class Dashboard:
    """Shows the state of this process: a page, a JSON document and a stream; an ASGI application.

    It looks once a ``period`` on a thread of its own, until it is closed or nobody holds it any more;
    in a forked child the thread begins with the first request or `start`. Objects are held weakly. While no dashboard is
    open, nothing is counted for it anywhere; while one is, refusals cost an event and what a
    limiter lets through costs one step of a counter (docs/dashboard.md has the numbers).

    Reading is for whoever reaches it under one of ``hosts`` and, with ``token``, has the token.
    Nothing can be changed unless ``actions`` is given. Values of configurations and keys of
    limiters are never shown.

    Args:
        *objects: What to show: guards, registries, pipelines' exporters, plugins ... Without any,
            everything of hastack that is alive in this process, what is made later included.
        service: Name of the service, as a title.
        period: Seconds between two looks.
        history: Looks that are remembered, for the small charts.
        hosts: Names in the ``Host`` header that are answered, without ports; by default those of
            the loopback. ``"*"`` answers to all: give a ``token`` then.
        token: Who reads must send this as a bearer token: at least 16 characters, or a callable
            that takes the ASGI scope and says yes with something true, a name for example. May be
            asynchronous.
        actions: Who acts must send this as a bearer token, or a callable as for ``token``.
            ``None`` disables actions.
        max_clients: Streams at a time; one more is answered 503.
        send_timeout: Seconds for a client to take one piece; a slower one is dropped.

    Raises:
        InvalidArgument: A number is out of range, a token too short, or an object is none that
            can be shown.
    """

    name = "dashboard"

    def __init__(
        self,
        *objects: object,
        service: str = "service",
        period: Seconds = 1.0,
        history: int = 120,
        hosts: Iterable[str] | str = LOOPBACK,
        token: Who | None = None,
        actions: Who | None = None,
        max_clients: int = 16,
        send_timeout: Seconds = 5.0,
    ) -> None:
        shown = objects or None
        for each in objects:
            try:
                weakref.ref(each)
            except TypeError:
                raise InvalidArgument("objects", each, "objects of hastack") from None
        self._hosts = _hosts(hosts)
        self._token = _who("token", token)
        self._actions = _who("actions", actions)
        self._max = _validate.integer("max_clients", max_clients)
        self._send_timeout = _validate.seconds("send_timeout", send_timeout)
        self._observer = Observer(
            shown,
            service=_validate.text("service", service),
            period=_validate.seconds("period", period),
            history=_validate.integer("history", history, minimum=2),
        )
        self._observer.actions = self._actions is not None
        self._ticker = Ticker(self._observer)
        self._clients = 0
        self._ending = False
        self._encoded: tuple[Snapshot | None, bytes] = (None, b"")
        # Also when nobody closes it, its counting must end with it.
        self._finalizer = weakref.finalize(self, _end, self._observer, self._ticker)
        self._finalizer.atexit = False
        renew_in_child(self)
        self._ticker.ensure()

    def _after_fork(self) -> None:
        self._ticker.after_fork()
        self._clients = 0

    def __repr__(self) -> str:
        return f"<Dashboard, {self._clients} clients>"

    def snapshot(self) -> Snapshot:
        """Look now. Any thread; takes about a millisecond for some dozen objects."""
        return self._observer.look(time.monotonic(), time.time())

    def start(self) -> None:
        """See that it looks once a period, after a fork for example; `Lifecycle` calls this."""
        self._ticker.ensure()

    def drain(self) -> None:
        """End the streams within a period: a server must not wait for them."""
        self._ending = True

    def stop(self) -> None:
        """`close`; `Lifecycle` calls this."""
        self.close()

    def close(self) -> None:
        """End the thread and the streams, and take away everything that counts."""
        self._ending = True
        self._finalizer()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- ASGI ----------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            from .asgi import _nothing

            await _nothing(scope, receive, send)
            return
        fields = _fields(scope)
        if not known_host(fields.get("host", ""), self._hosts):
            await _reply(send, 421, _TEXT, b"this host is not among the dashboard's hosts\n")
            return
        path, method = _path(scope), scope["method"]
        if path == "/actions":
            await self._act(scope, fields, receive, send)
        elif method not in {"GET", "HEAD"}:
            await _reply(send, 405, _TEXT, b"only GET and HEAD\n", ((b"allow", b"GET, HEAD"),))
        elif path in {"", "/"}:
            body, policy = page()
            extra = ((b"content-security-policy", policy), (b"x-frame-options", b"DENY"))
            await _reply(send, 200, b"text/html; charset=utf-8", body, extra, head=method == "HEAD")
        elif path not in {"/snapshot.json", "/events"}:
            await _reply(send, 404, _TEXT, b"not found\n")
        elif not await _says_yes(self._token, scope, fields):
            await _refuse(send)
        elif path == "/events" and method == "GET":
            await self._stream(receive, send)
        else:
            await _reply(send, 200, _JSON, await self._document(), head=method == "HEAD")

    async def _document(self) -> bytes:
        """The last snapshot as JSON, not older than two periods while the thread runs."""
        import asyncio

        self._ticker.ensure()
        last = self._observer.last
        if last is None or time.time() - last.at > 2.0 * self._observer.period:
            await asyncio.to_thread(self.snapshot)
        return self._current()

    def _current(self) -> bytes:
        last = self._observer.last
        if last is not self._encoded[0] and last is not None:
            self._encoded = (last, _as_bytes(last))  # one for all clients
        return self._encoded[1]

    async def _stream(self, receive: Receive, send: Send) -> None:
        """Snapshots as they come; a client that is slower gets the newest, not all of them."""
        import asyncio

        if self._clients >= self._max or self._ending:
            await _reply(send, 503, _TEXT, b"no more streams\n", ((b"retry-after", b"5"),))
            return
        self._clients += 1
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            body = await self._document()
            head = (*_HEADERS, (b"content-type", b"text/event-stream"))
            start = {"type": "http.response.start", "status": 200, "headers": list(head)}
            until = time.monotonic() + _STREAM_LASTS
            async with asyncio.timeout(self._send_timeout):
                await send(start)
            sent = b""
            while not (gone.done() or self._is_over(until)):
                # A comment keeps the connection known to be alive where nothing is new.
                piece = b":\n\n" if body is sent else b"data: " + body + b"\n\n"
                async with asyncio.timeout(self._send_timeout):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                sent = body
                await asyncio.wait([gone], timeout=self._observer.period)
                self._ticker.ensure()
                body = self._current()
            async with asyncio.timeout(self._send_timeout):
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            _log.info("a client of the dashboard was too slow and is dropped")
        finally:
            self._clients -= 1
            gone.cancel()

    def _is_over(self, until: float) -> bool:
        """Whether a stream ends: its time is up, or a server would have to wait for it."""
        return self._ending or time.monotonic() >= until or self._observer.draining()

    # -- actions -------------------------------------------------------------------------------

    async def _act(
        self, scope: Scope, fields: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        import asyncio

        if self._actions is None:
            await _reply(send, 404, _TEXT, b"actions are not enabled\n")
            return
        if scope["method"] != "POST":
            await _reply(send, 405, _TEXT, b"only POST\n", ((b"allow", b"POST"),))
            return
        against = foreign(fields)
        if against:
            await _reply(send, 403, _TEXT, f"{against}\n".encode())
            return
        who = await _says_yes(self._actions, scope, fields)
        client = _client(scope)
        if not who:
            _audit("?", client, "?", "?", None, "refused", "not authorized")
            await _refuse(send)
            return
        try:
            async with asyncio.timeout(_BODY_WITHIN):
                body = await _body(receive)
            if body is None:
                await _reply(send, 413, _TEXT, b"the body is too large\n")
                return
            status, said = await asyncio.to_thread(self._do, who, client, body)
        except TimeoutError:
            status, said = 408, "the body did not come in time"
        await _reply(send, status, _JSON, json.dumps({"said": said}).encode() + b"\n")

    def _do(self, who: str, client: str, body: bytes) -> tuple[int, str]:
        try:
            wanted = asked(body)
        except InvalidArgument as error:
            _audit(who, client, "?", "?", None, "failed", str(error))
            return 400, str(error)
        thing = self._observer.find(wanted.target)
        known = (who, client, wanted.action, str(getattr(thing, "name", wanted.target)))
        if thing is None:
            _audit(*known, wanted.value, "failed", "gone")
            return 404, f"{wanted.target} is gone"
        try:
            perform(self._observer, wanted, thing)
        except (HastackError, ValueError) as error:
            _audit(*known, wanted.value, "failed", str(error))
            return 400, str(error)
        _audit(*known, wanted.value, "done", "" if wanted.value is None else f"{wanted.value:g}")
        self.snapshot()
        return 200, f"{wanted.action}: done"


def _end(observer: Observer, ticker: Ticker) -> None:
    ticker.stop(1.0)
    observer.close()


def _audit(
    who: str,
    client: str,
    action: str,
    target: str,
    value: float | None,
    outcome: str,
    detail: str,
) -> None:
    _log.warning(
        "action %s on %r by %s from %s: %s %s", action, target, who, client, outcome, detail
    )
    if ACTED.subscribers:
        ACTED.publish(
            DashboardAction(
                who=who,
                client=client,
                action=action,
                target=target,
                value=value,
                outcome=outcome,
                detail=detail,
            )
        )


def _hosts(hosts: Iterable[str] | str) -> frozenset[str] | None:
    if isinstance(hosts, str):
        if hosts != "*":
            raise InvalidArgument("hosts", hosts, "a list of names, or '*' for all")
        return None
    known = frozenset(str(each).strip("[]").lower() for each in hosts)
    if not known or "" in known or "*" in known:
        raise InvalidArgument("hosts", hosts, "a list of names, or '*' for all")
    return known


def _who(parameter: str, value: Any) -> Any:
    """The token as text, or the callable."""
    if value is None or callable(value):
        return value
    text = value.reveal() if hasattr(value, "reveal") else value
    if not isinstance(text, str) or len(text) < _SHORTEST_TOKEN or not text.isascii():
        accepted = f"{_SHORTEST_TOKEN} ASCII characters or more, or a callable"
        raise InvalidArgument(parameter, "***", accepted)
    return text


async def _says_yes(who: Any, scope: Scope, fields: Mapping[str, str]) -> str:
    """Who it is; "" for nobody."""
    if who is None:
        return "anybody"
    if isinstance(who, str):
        return "token" if same_token(bearer(fields), who) else ""
    import inspect

    answer = who(scope)
    if inspect.isawaitable(answer):
        answer = await answer
    return answer if isinstance(answer, str) else "somebody" if answer else ""


def _as_bytes(snapshot: Snapshot) -> bytes:
    return json.dumps(snapshot.as_json(), separators=(",", ":"), allow_nan=False).encode()


def _client(scope: Scope) -> str:
    address = scope.get("client")
    return str(address[0]) if address else "?"


def _fields(scope: Scope) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }


def _path(scope: Scope) -> str:
    """The path below where the application is mounted; hosts differ in what they leave on."""
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path


async def _reply(
    send: Send,
    status: int,
    content_type: bytes,
    body: bytes,
    extra: tuple[tuple[bytes, bytes], ...] = (),
    *,
    head: bool = False,
) -> None:
    headers = [*_HEADERS, (b"content-type", content_type), *extra]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


async def _refuse(send: Send) -> None:
    extra = ((b"www-authenticate", b'Bearer realm="hastack dashboard"'),)
    await _reply(send, 401, _TEXT, b"a token is needed\n", extra)


async def _body(receive: Receive) -> bytes | None:
    """The body of a request; ``None`` when it is too large."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return body
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return body


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
