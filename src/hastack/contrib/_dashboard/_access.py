"""Who may see the dashboard, and who may act: decided from the head of a request alone.

- ``Host`` must be a name that the service is meant to be reached by. A page elsewhere whose name
  is made to resolve to 127.0.0.1 (DNS rebinding) sends its own name.
- An action needs a JSON body and must not come from another site: browsers send such a request
  elsewhere only after a preflight, which is never answered.
- Tokens are compared in constant time.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ("LOOPBACK", "bearer", "foreign", "host_name", "known_host", "same_token")

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def host_name(host: str) -> str:
    """The name in a ``Host`` header, without port, brackets and closing dot; "" when it is none.

    Example:
        >>> host_name("Example.org.:8080"), host_name("[::1]:80"), host_name("a@b")
        ('example.org', '::1', '')
    """
    text = host.strip().lower()
    if text.startswith("["):
        name, closed, port = text[1:].partition("]")
        if not closed or (port and not _is_port(port)):
            return ""
        return name
    name, _, port = text.partition(":")
    if port and not _is_port(f":{port}"):
        return ""
    name = name.removesuffix(".")
    return name if name and not set(name) & set("/\\@?# \t") else ""


def _is_port(text: str) -> bool:
    return text[0] == ":" and text[1:].isascii() and text[1:].isdigit()


def known_host(host: str, hosts: Collection[str] | None) -> bool:
    """Whether a request with this ``Host`` header is for us; ``None`` takes any."""
    if hosts is None:
        return True
    name = host_name(host)
    return bool(name) and name in hosts


def foreign(fields: Mapping[str, str]) -> str:
    """Why a request that changes something is not from our own page or a program; "" if it may be.

    Args:
        fields: Header fields, names in lower case.
    """
    kind = fields.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return "the body must be application/json"
    site = fields.get("sec-fetch-site", "")
    if site not in {"", "same-origin", "none"}:
        return "a request from another site"
    origin = fields.get("origin")
    if origin is not None:
        _, _, authority = origin.partition("://")
        if authority.lower() != fields.get("host", "").strip().lower():
            return "a request from another origin"
    return ""


def bearer(fields: Mapping[str, str]) -> str:
    """The token of an ``Authorization: Bearer`` header; "" without one."""
    scheme, _, token = fields.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def same_token(given: str, wanted: str) -> bool:
    """Whether two tokens are the same, in a time that does not say where they differ."""
    return bool(given) and hmac.compare_digest(given.encode(), wanted.encode())
