"""How to reach a cluster: endpoints, credentials, certificates; given in parts or as one URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, final
from urllib.parse import unquote

import attrs

from hastack._config._secret import Secret
from hastack._core._errors import InvalidArgument
from hastack._core._validate import integer, seconds, text
from hastack.discovery._records import as_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hastack._core._validate import Seconds

__all__ = ("TLS", "Options", "options_of", "parse_url")

_ENDPOINT = "host:port, optionally with http:// or https:// before it"


@final
@attrs.frozen(kw_only=True)
class TLS:
    """Certificates for a connection over TLS.

    Args:
        ca: PEM of the authorities to trust; those of the system by default.
        cert: PEM of the client's own certificate chain, for a cluster that asks for one.
        key: PEM of its private key.
        server_name: Name to expect in the server's certificate, where it differs from the endpoint.

    Raises:
        InvalidArgument: One of ``cert`` and ``key`` is missing, or a value is no bytes.

    Example:
        >>> from pathlib import Path
        >>> from hastack.discovery import etcd
        >>> etcd.TLS(ca=b"-----BEGIN CERTIFICATE-----...").server_name is None
        True
    """

    ca: bytes | None = attrs.field(default=None, repr=False)
    cert: bytes | None = attrs.field(default=None, repr=False)
    key: bytes | None = attrs.field(default=None, repr=False)
    server_name: str | None = None

    def __attrs_post_init__(self) -> None:
        for name in ("ca", "cert", "key"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, bytes):
                # Never the value: of ``key`` it is a secret.
                raise InvalidArgument(name, type(value), "bytes in PEM, or None")
        if (self.cert is None) != (self.key is None):
            missing = "key" if self.key is None else "cert"
            raise InvalidArgument(missing, None, "PEM of both cert and key, or of neither")


@attrs.frozen(kw_only=True)
class Options:
    """What a client was told."""

    endpoints: tuple[str, ...]
    namespace: bytes
    user: str | None
    password: Secret | None
    tls: TLS | None
    timeout: float
    max_txn_ops: int
    max_request_bytes: int


def options_of(
    endpoints: str | Iterable[str],
    *,
    namespace: str | bytes = "",
    user: str | None = None,
    password: str | Secret | None = None,
    tls: TLS | bool | None = None,
    timeout: Seconds = 5.0,
    max_txn_ops: int = 128,
    max_request_bytes: int = 1_572_864,
) -> Options:
    """Check what a client was told.

    Raises:
        InvalidArgument: An argument is not what its name asks for.
    """
    if isinstance(endpoints, str):
        endpoints = endpoints.split(",")
    found = [_endpoint(each) for each in endpoints]
    if not found:
        raise InvalidArgument("endpoints", found, f"at least one {_ENDPOINT}")
    schemes = {scheme for scheme, _ in found if scheme}
    if len(schemes) > 1:
        raise InvalidArgument("endpoints", endpoints, "all with TLS or all without")
    password = _secret(password)
    if (user is None) != (password is None):
        missing = "password" if password is None else "user"
        raise InvalidArgument(missing, None, "both user and password, or neither")
    return Options(
        endpoints=tuple(dict.fromkeys(address for _, address in found)),
        namespace=as_bytes("namespace", namespace),
        user=user,
        password=password,
        tls=_tls(tls, schemes),
        timeout=seconds("timeout", timeout),
        max_txn_ops=integer("max_txn_ops", max_txn_ops),
        max_request_bytes=integer("max_request_bytes", max_request_bytes),
    )


def _tls(given: object, schemes: set[str]) -> TLS | None:
    if given is None:
        return TLS() if "https" in schemes else None
    encrypted = given is not False
    if (encrypted and "http" in schemes) or (not encrypted and "https" in schemes):
        raise InvalidArgument("tls", given, "what the scheme of the endpoints says")
    if given is True:
        return TLS()
    if not encrypted:
        return None
    if isinstance(given, TLS):
        return given
    raise InvalidArgument("tls", type(given), "a TLS, True, False or None")


def _secret(given: object) -> Secret | None:
    if given is None or isinstance(given, Secret):
        return given
    if not isinstance(given, str):
        raise InvalidArgument("password", type(given), "str or Secret")
    return Secret(given)


def _endpoint(given: object) -> tuple[str, str]:
    """Scheme (or ``""``) and host:port."""
    if not isinstance(given, str):
        raise InvalidArgument("endpoints", given, _ENDPOINT)
    scheme, separator, address = given.strip().rpartition("://")
    host, _, port = address.rstrip("/").rpartition(":")
    known = scheme in {"http", "https"} if separator else not scheme
    if not known or not host or not port.isdecimal() or not 0 < int(port) < 65536 or "@" in host:
        raise InvalidArgument("endpoints", given, _ENDPOINT)
    return scheme, f"{host}:{port}"


def parse_url(url: str) -> Options:
    """Read ``etcd://user:password@host:2379,host2:2379/namespace``; ``etcds://`` is with TLS.

    A port that is left out is 2379. User, password and namespace are percent-encoded.

    Raises:
        InvalidArgument: It is no such URL. The message does not show the password.
    """
    accepted = "etcd://[user:password@]host[:port][,host[:port]...][/namespace]"
    shown = _masked(url)
    # Not urlsplit: since the fix of CVE-2025-0938 it refuses a list with an IPv6 address in it.
    scheme, separator, rest = text("url", url).partition("://")
    authority, _, path = rest.partition("/")
    if scheme not in {"etcd", "etcds"} or not separator or set("?#") & set(rest):
        raise InvalidArgument("url", shown, accepted)
    login, at, hosts = authority.rpartition("@")
    user, colon, password = login.partition(":")
    if (at and not (user and colon)) or not hosts:
        raise InvalidArgument("url", shown, accepted)
    addresses = [host if _has_port(host) else f"{host}:2379" for host in hosts.split(",")]
    namespace = unquote(path)
    try:
        return options_of(
            addresses,
            namespace=namespace,
            user=unquote(user) if at else None,
            password=Secret(unquote(password)) if at else None,
            tls=scheme == "etcds",
        )
    except InvalidArgument as error:
        raise InvalidArgument("url", shown, accepted) from error


def _has_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]


def _masked(url: object) -> object:
    """``url`` without its password."""
    if not isinstance(url, str) or "@" not in url:
        return url
    scheme, separator, rest = url.partition("://")
    login, at, tail = rest.rpartition("@")
    return f"{scheme}{separator}{login.partition(':')[0]}:***{at}{tail}"
