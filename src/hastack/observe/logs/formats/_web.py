"""nginx and Apache: access logs in their usual formats, and error logs."""

from __future__ import annotations

from hastack.observe.logs import _times
from hastack.observe.logs import combinators as c

from ._format import Format
from ._leaves import (
    Where,
    count,
    end,
    host,
    in_quotes,
    leaf,
    request,
    slash_time,
    status,
    user,
    word,
)

__all__ = ("apache_error", "combined", "common", "main", "nginx_error", "vhost")

_REFERER_AND_AGENT = (
    *(' "', c.field("referer", in_quotes()), '" "', c.field("agent", in_quotes()), '"'),
)


def _access(*after: object) -> c.Parser:
    return c.seq(
        *(c.field("client", host), " ", c.field("ident", word()), " ", c.field("user", user)),
        *(" [", c.field("time", c.clf_time), '] "', request(), '" '),
        *(c.field("status", status), " ", c.field("size", count)),
        *after,
    )


def common(where: Where) -> Format:
    """NCSA's common log format."""
    return Format("nginx.common", _access())


def combined(where: Where) -> Format:
    """The common format, referer and user agent: the default of nginx, usual with Apache."""
    return Format("nginx.combined", _access(*_REFERER_AND_AGENT))


def main(where: Where) -> Format:
    """The combined format and X-Forwarded-For: ``main`` of nginx's own packages."""
    forwarded = c.field("forwarded_for", in_quotes())
    return Format("nginx.main", _access(*_REFERER_AND_AGENT, ' "', forwarded, '"'))


def vhost(where: Where) -> Format:
    """Apache's ``vhost_combined``: the server and its port come first."""
    server = leaf("[A-Za-z0-9_.-]++", expected="a server")
    line = c.seq(
        *(c.field("server", server), ":", c.field("port", c.integer), " "),
        _access(*_REFERER_AND_AGENT),
    )
    return Format("apache.vhost_combined", line)


def nginx_error(where: Where) -> Format:
    """The error log of nginx."""
    named = [
        c.opt(c.seq(", server: ", c.field("server", leaf("[^,]*+", expected="a server")))),
        *(
            c.opt(c.seq(f', {name}: "', c.field(name, in_quotes()), '"'))
            for name in ("request", "subrequest", "upstream", "host", "referrer")
        ),
    ]
    client = c.field("client", leaf("[^,]++", expected="a client"))
    line = c.seq(
        *(c.field("time", slash_time(where)), " ["),
        *(c.field("level", leaf("[a-z]{1,9}+", expected="a level")), "] "),
        *(c.field("pid", c.integer), "#", c.field("thread", c.integer), ": "),
        c.opt(c.seq("*", c.field("connection", c.integer), " ")),
        c.alt(
            c.seq(c.field("message", c.until(", client: ")), ", client: ", client, *named, end),
            c.field("message", c.rest),
        ),
    )
    return Format("nginx.error", line)


def apache_error(where: Where) -> Format:
    """Apache's error log, that of 2.2 and that of 2.4."""
    moment = _times.remembering(_times.ctime(where.zone))
    peer = leaf(r"[^\]]++", expected="a client")
    line = c.seq(
        "[",
        c.field("time", leaf(_times.CTIME, moment, expected="a time", kind="timestamp")),
        "] [",
        c.opt(c.seq(c.field("module", leaf(r"[a-z0-9_]*+(?=:)", expected="a module")), ":")),
        c.field("level", leaf("[a-z0-9]{1,9}+", expected="a level")),
        "] ",
        c.opt(
            c.seq(
                *("[pid ", c.field("pid", c.integer)),
                c.opt(c.seq(":tid ", c.field("thread", c.integer))),
                "] ",
            )
        ),
        c.opt(c.seq("[client ", c.field("client", peer), "] ")),
        c.opt(c.seq(c.field("code", leaf("AH[0-9]{5}", expected="AH00000")), ": ")),
        c.field("message", c.rest),
    )
    return Format("apache.error", line)
