"""One snapshot from a dashboard, over HTTP."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, Final, final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from hastack._core._errors import HastackError

__all__ = ("Source", "Unreachable", "Unusable")

MAX_BODY: Final = 64 << 20
_VERSION: Final = 1


class Unreachable(HastackError, ConnectionError):
    """Nobody answers there now; it may come back."""


class Unusable(HastackError, ValueError):
    """Something answers there that is no dashboard for us, and will not become one by itself."""


class _Stay(HTTPRedirectHandler):
    """Follows no redirect: the token is for this address only."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@final
class Source:
    """Where a dashboard is.

    Args:
        url: Its address, with or without ``/snapshot.json`` at the end.
        token: Sent as a bearer token.
        timeout: Seconds for one answer.

    Raises:
        Unusable: ``url`` is no address of HTTP.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 5.0) -> None:
        if "://" not in url:
            url = f"http://{url}"
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
            parts.port  # noqa: B018  # raises when it is none
        except ValueError:
            usable = False
        if not usable:
            raise Unusable(f"{url}: not an http:// or https:// address")
        self.url = url.rstrip("/").removesuffix("/snapshot.json").rstrip("/")
        self._token = token
        self._timeout = timeout
        # A proxy for the world outside has no business with a service of ours.
        self._opener = build_opener(_Stay, ProxyHandler({}))

    def close(self) -> None:
        """Nothing is kept open between two answers."""

    def fetch(self) -> dict[str, Any]:
        """The snapshot of now.

        Raises:
            Unreachable: No answer, or one that says to come again.
            Unusable: An answer that is none of a dashboard.
        """
        fields = {"accept": "application/json"}
        if self._token:
            fields["authorization"] = f"Bearer {self._token}"
        request = Request(f"{self.url}/snapshot.json", headers=fields)  # noqa: S310  # checked above
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                body = answer.read(MAX_BODY + 1)
        except HTTPError as error:
            with error:
                raise self._refused(error.code) from None
        except (URLError, OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.url}: {_why(error)}") from None
        if len(body) > MAX_BODY:
            raise Unusable(f"{self.url}: the answer is larger than {MAX_BODY >> 20} MiB")
        return self._read(body)

    def _refused(self, status: int) -> HastackError:
        if status == 401:
            return Unusable(f"{self.url}: wants a token: --token, or HASTACK_TOP_TOKEN")
        if status == 421:
            return Unusable(f"{self.url}: this name is not among the dashboard's hosts=")
        if status == 404:
            return Unusable(f"{self.url}: no dashboard at this path")
        if status in {408, 429} or status >= 500:
            return Unreachable(f"{self.url}: answered {status}")
        return Unusable(f"{self.url}: answered {status}")

    def _read(self, body: bytes) -> dict[str, Any]:
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict) or "version" not in found:
            raise Unusable(f"{self.url}: answers, but is no dashboard of hastack")
        if found["version"] != _VERSION:
            raise Unusable(
                f"{self.url}: speaks version {found['version']!r}, this is {_VERSION}; "
                "use the hastack of the service"
            )
        return found


def _why(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, (TimeoutError, socket.timeout)):
        return "no answer in time"
    if isinstance(reason, ConnectionRefusedError):
        return "nobody listens there"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
