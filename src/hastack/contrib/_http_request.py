"""A request as the rules see it, whatever framework it came through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._client_address import parse_address

if TYPE_CHECKING:
    from ._client_address import TrustedProxies

_UNREAD: Any = object()


class HttpRequest:
    """What keys, costs and conditions of a rule may look at.

    Attributes:
        method: In capitals; ``GET`` for a WebSocket's opening handshake.
        path: Decoded, without the query and without the prefix that the application is mounted
            under.
        peer: Address of the connection, ``None`` when it has none (a Unix socket).
        native: The framework's own request: an ASGI scope, a WSGI environ, a request object.
    """

    __slots__ = ("_client", "_proxies", "matched", "method", "native", "path", "peer")

    def __init__(
        self,
        method: str,
        path: str,
        peer: str | None,
        native: Any,
        proxies: TrustedProxies | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.peer = peer
        self.native = native
        self.matched = ""  # the path of the rule that is being asked
        self._proxies = proxies
        self._client: str | None = _UNREAD

    def header(self, name: str) -> str | None:
        """The value of a header, given in lower case; several lines are joined with commas."""
        raise NotImplementedError

    @property
    def route(self) -> str:
        """The template that the request's path matched: ``/orders/{id}``.

        As the framework wrote it, where it has chosen a route already; otherwise the ``path`` of
        the rule. Empty when there is neither: a path that nobody knows is no route of its own,
        or each guess of an attacker would have a limit of its own.
        """
        return self._template() or self.matched

    def _template(self) -> str:
        return ""

    @property
    def client(self) -> str | None:
        """The client's address: the peer's, or what trusted proxies say about it."""
        found = self._client
        if found is _UNREAD:
            if self._proxies is None:
                found = parse_address(self.peer)
            else:
                found = self._proxies.client(self.peer, self.header(self._proxies.header))
            self._client = found
        return found

    @property
    def body_size(self) -> int | None:
        """The declared length of the body in bytes; 0 without a body, ``None`` when unknown."""
        declared = self.header("content-length")
        if declared is not None:
            # More digits than any body has are no length, and slow to convert.
            plausible = declared.isascii() and declared.isdigit() and len(declared) <= 18
            return int(declared) if plausible else None
        return 0 if self.header("transfer-encoding") is None else None
