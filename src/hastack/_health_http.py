"""What the health endpoints say over HTTP: pure text, for every host alike."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._health_verdict import CheckResult, Verdict

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

PATHS = {"/healthz": "live", "/readyz": "ready", "/startupz": "startup", "/metrics": "metrics"}
"""Which question each path asks."""

REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

MAX_HEAD = 8192
"""Bytes of a request line with its headers; probes and scrapers send a few hundred."""


@attrs.frozen
class Reply:
    """A whole HTTP response."""

    status: int
    content_type: str
    body: bytes
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Header fields, content length included."""
        return (
            ("content-type", self.content_type),
            ("content-length", str(len(self.body))),
            ("cache-control", "no-store"),
            *self.extra,
        )


BAD = Reply(400, TEXT, b"bad request\n")
NOT_FOUND = Reply(404, TEXT, b"not found\n")
TOO_LARGE = Reply(431, TEXT, b"request header too large\n")


@attrs.frozen
class Request:
    """What the head of a request asks for; names of fields in lower case."""

    method: str
    path: str
    query: str
    fields: Mapping[str, str]


def parsed(head: bytes) -> Request | None:
    """The head of an HTTP/1 request, up to the empty line; ``None`` if it is none."""
    line, *rest = head.decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or not words[1].startswith("/") or not words[2].startswith("HTTP/1."):
        return None
    path, _, query = words[1].partition("?")
    pairs = [field.partition(":") for field in rest]
    return Request(words[0], path, query, {name.lower(): value.strip() for name, _, value in pairs})


def wire(reply: Reply, method: str) -> bytes:
    """``reply`` as it goes over a connection that is closed afterwards."""
    lines = [f"HTTP/1.1 {reply.status} {REASONS[reply.status]}"]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    lines += ["connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + (b"" if method == "HEAD" else reply.body)


def question(path: str, root: str, paths: Mapping[str, str]) -> str | None:
    """What ``path`` asks, or ``None``; ``root`` is the prefix the application is mounted under."""
    # Hosts differ in whether the path includes the mount point; both are understood.
    if root and path.startswith(root.rstrip("/") + "/"):
        path = path[len(root.rstrip("/")) :]
    return paths.get(path)


def refused(method: str) -> Reply | None:
    """An answer to methods that these endpoints do not have."""
    if method in {"GET", "HEAD"}:
        return None
    return Reply(405, TEXT, b"only GET and HEAD\n", (("allow", "GET, HEAD"),))


def render(asked: str, verdict: Verdict, *, query: str = "", accept: str = "") -> Reply:
    """``verdict`` as text, or as JSON when the client prefers that.

    Args:
        asked: The question, as in `PATHS`.
        verdict: Its answer.
        query: Raw query string; ``verbose`` lists all checks.
        accept: The ``Accept`` header.
    """
    verbose = _flag(query, "verbose")
    status = 200 if verdict else 503
    if wants_json(accept):
        body: dict[str, Any] = {"status": verdict.status.value, "failing": list(verdict.failing)}
        if verbose:
            body["checks"] = [_as_json(each) for each in verdict.checks]
        return Reply(status, JSON, json.dumps(body).encode() + b"\n")
    lines = [f"[-] {reason}" for reason in verdict.failing]
    if verbose:
        lines += [f"[+] {_as_line(each)}" for each in verdict.checks if each.ok]
    lines.append(f"{asked}: {verdict.status.value}")
    return Reply(status, TEXT, "\n".join(lines).encode() + b"\n")


def wants_json(accept: str) -> bool:
    """Whether an ``Accept`` header names JSON."""
    return any(
        part.partition(";")[0].strip().lower() in {JSON, "application/health+json"}
        for part in accept.split(",")
    )


def _flag(query: str, name: str) -> bool:
    # max_num_fields: a probe has no business with long queries, and this bounds the work.
    try:
        fields = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=16))
    except ValueError:
        return False
    return fields.get(name, "0").lower() not in {"0", "false", "no"}


def _as_json(check: CheckResult) -> dict[str, Any]:
    return {
        "name": check.name,
        "ok": check.ok,
        "critical": check.critical,
        "detail": check.detail,
        "age": None if check.age is None else round(check.age, 3),
        "took": None if check.took is None else round(check.took, 6),
        "streak": check.streak,
    }


def _as_line(check: CheckResult) -> str:
    text = f"{check.name}: {check.detail or 'ok'}"
    if check.age is not None:
        text += f" ({check.age:.1f} s ago"
        text += ")" if check.took is None else f", took {check.took * 1000:.1f} ms)"
    return text
