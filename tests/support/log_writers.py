"""Small writers, one for each format, that know nothing of how it is read."""

import json
import string
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

ZONES = [UTC, timezone(timedelta(hours=2)), timezone(-timedelta(hours=3, minutes=30))]
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]

EARLIEST, LATEST = datetime(1980, 1, 1), datetime(2037, 1, 1)  # noqa: DTZ001  # hypothesis adds it
moments = st.datetimes(EARLIEST, LATEST, timezones=st.sampled_from(ZONES))
whole = moments.map(lambda t: t.replace(microsecond=0))
millis = moments.map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000))
words = st.text(string.ascii_letters + string.digits + "_./+", min_size=1, max_size=12)
names = st.text(string.ascii_letters, min_size=1, max_size=8)
message = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r\0\x1b\ufeff"), min_size=1, max_size=40
)
plain_message = message.filter(lambda text: text == text.strip() and text)
number = st.integers(0, 10**9)
word_or_none = st.none() | words.filter(lambda word: word != "-")
ips = st.ip_addresses().map(str)


def nil(value):
    return "-" if value is None else value


def clf(t):
    return f"{t.day:02}/{MONTHS[t.month - 1]}/{t.year}:{t:%H:%M:%S %z}"


def web_quoted(text):
    """As nginx escapes: quotes, backslashes and control characters by their bytes."""
    return "".join(
        "".join(f"\\x{octet:02X}" for octet in char.encode())
        if char in '"\\' or not char.isprintable()
        else char
        for char in text
    )


def written(draw_from, write):
    return st.fixed_dictionaries(draw_from).map(lambda record: (write(record), record))


def access(r):
    line = f"{r['client']} {nil(r['ident'])} {nil(r['user'])} [{clf(r['time'])}] "
    request = f"{r['method']} {r['path']} {r['protocol']}"
    return f'{line}"{request}" {r["status"]} {nil(r["size"])}'


ACCESS = {
    "client": ips,
    "ident": st.none(),
    "user": word_or_none,
    "time": whole,
    "method": st.sampled_from(["GET", "PUT", "PROPFIND"]),
    "path": words.map(lambda word: f"/{word}"),
    "protocol": st.sampled_from(["HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0"]),
    "status": st.integers(100, 599),
    "size": st.none() | number,
}
text_or_none = st.none() | plain_message.filter(lambda text: text != "-")


def rfc5424(r):
    data = "".join(
        f"[{element}" + "".join(f' {k}="{escaped_sd(v)}"' for k, v in inner.items()) + "]"
        for element, inner in (r["data"] or {}).items()
    )
    facility = [
        "kern",
        "user",
        "mail",
        "daemon",
        "auth",
        "syslog",
        "lpr",
        "news",
        "uucp",
        "cron",
        "authpriv",
        "ftp",
    ]
    priority = facility.index(r["facility"]) * 8 + r["severity"]
    time = "-" if r["time"] is None else r["time"].isoformat()
    process = r["pid"] if r["pid"] is not None else nil(r["procid"])
    head = f"<{priority}>1 {time} {nil(r['host'])} {nil(r['app'])} {process} {nil(r['msgid'])} "
    return head + (data or "-") + ("" if r["message"] is None else f" {r['message']}")


def escaped_sd(text):
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


WRITERS = {
    "nginx.common": written(ACCESS, access),
    "nginx.combined": written(
        {**ACCESS, "referer": text_or_none, "agent": text_or_none},
        lambda r: f'{access(r)} "{web_quoted(nil(r["referer"]))}" "{web_quoted(nil(r["agent"]))}"',
    ),
    "nginx.error": written(
        {
            "time": whole.map(lambda t: t.replace(tzinfo=UTC)),
            "level": st.sampled_from(["error", "warn", "crit"]),
            "pid": number,
            "thread": number,
            "connection": st.none() | number,
            "message": plain_message.filter(lambda m: m[0] != "*" and ", client: " not in m),
            "client": st.none() | ips,
        },
        lambda r: (
            f"{r['time']:%Y/%m/%d %H:%M:%S} [{r['level']}] {r['pid']}#{r['thread']}: "
            + ("" if r["connection"] is None else f"*{r['connection']} ")
            + r["message"]
            + ("" if r["client"] is None else f", client: {r['client']}, server: _")
        ),
    ),
    "apache.error": written(
        {
            "time": moments.map(lambda t: t.replace(tzinfo=UTC)),
            "module": names.map(str.lower),
            "level": st.sampled_from(["error", "warn", "trace8"]),
            "pid": number,
            "client": ips,
            "message": plain_message.filter(lambda m: not m.startswith("AH")),
        },
        lambda r: (
            f"[{DAYS[r['time'].weekday()]} {MONTHS[r['time'].month - 1]} "
            f"{r['time']:%d %H:%M:%S.%f %Y}] [{r['module']}:{r['level']}] [pid {r['pid']}] "
            f"[client {r['client']}] {r['message']}"
        ),
    ),
    "syslog.rfc5424": written(
        {
            "facility": st.sampled_from(["kern", "mail", "authpriv", "ftp"]),
            "severity": st.integers(0, 7),
            "time": st.none() | moments,
            "host": word_or_none,
            "app": word_or_none,
            "pid": st.none() | number,
            "procid": st.none(),
            "msgid": word_or_none,
            "data": st.none()
            | st.dictionaries(
                names, st.dictionaries(names, message, max_size=3), min_size=1, max_size=2
            ),
            "message": st.none() | message,
        },
        rfc5424,
    ),
    "syslog.rfc3164": written(
        {
            "host": names,
            "app": names,
            "pid": number,
            "message": plain_message,
            "severity": st.just(5),
        },
        lambda r: f"<13>Oct 10 13:55:36 {r['host']} {r['app']}[{r['pid']}]: {r['message']}",
    ),
    "glog": written(
        {
            "level": st.sampled_from(["INFO", "WARNING", "ERROR", "FATAL"]),
            "thread": number,
            "file": names.map(lambda name: f"{name}.go"),
            "line": number,
            "message": plain_message,
        },
        lambda r: (
            f"{r['level'][0]}1010 13:55:36.000001 {r['thread']:>7} {r['file']}:{r['line']}] "
            f"{r['message']}"
        ),
    ),
    "json": written(
        {
            "level": names,
            "value": st.none() | st.booleans() | number | st.floats(allow_nan=True) | message,
            "inner": st.dictionaries(names, st.lists(number, max_size=3), max_size=2),
        },
        json.dumps,
    ),
    "logfmt": written(
        {"level": names.map("x{}".format), "n": number, "ok": st.booleans(), "msg": message},
        lambda r: f"level={r['level']} n={r['n']} ok={str(r['ok']).lower()} msg={quoted(r['msg'])}",
    ),
    "docker.json": written(
        {"time": moments, "stream": st.sampled_from(["stdout", "stderr"]), "message": message},
        lambda r: json.dumps(
            {"log": r["message"] + "\n", "stream": r["stream"], "time": r["time"].isoformat()},
            separators=(",", ":"),
        ),
    ),
    "cri": written(
        {
            "time": moments,
            "stream": st.sampled_from(["stdout", "stderr"]),
            "partial": st.booleans(),
            "message": st.just("") | message,
        },
        lambda r: f"{r['time'].isoformat()} {r['stream']} {'FP'[r['partial']]} {r['message']}",
    ),
    "python.logging": written(
        {
            "time": millis.map(lambda t: t.replace(tzinfo=UTC)),
            "logger": names,
            "level": st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
            "message": message,
        },
        lambda r: (
            f"{r['time']:%Y-%m-%d %H:%M:%S},{r['time'].microsecond // 1000:03} - "
            f"{r['logger']} - {r['level']} - {r['message']}"
        ),
    ),
    "python.basic": written(
        {"level": st.sampled_from(["DEBUG", "ERROR"]), "logger": names, "message": message},
        lambda r: f"{r['level']}:{r['logger']}:{r['message']}",
    ),
    "java.log4j": written(
        {
            "time": millis.map(lambda t: t.replace(tzinfo=UTC)),
            "thread": names,
            "level": st.sampled_from(["TRACE", "INFO", "WARN", "FATAL"]),
            "logger": names,
            "message": message,
        },
        lambda r: (
            f"{r['time']:%Y-%m-%d %H:%M:%S},{r['time'].microsecond // 1000:03} "
            f"[{r['thread']}] {r['level']:5} {r['logger']} - {r['message']}"
        ),
    ),
    "go.log": written(
        {
            "time": moments.map(lambda t: t.replace(tzinfo=UTC)),
            "file": names.map(lambda name: f"{name}.go"),
            "line": number,
            "message": plain_message.filter(
                lambda m: not m.startswith(("INFO", "WARN", "ERR", "DEB"))
            ),
        },
        lambda r: f"{r['time']:%Y/%m/%d %H:%M:%S.%f} {r['file']}:{r['line']}: {r['message']}",
    ),
    "postgresql": written(
        {
            "time": millis,
            "pid": number,
            "user": names,
            "database": names,
            "level": st.sampled_from(["LOG", "ERROR", "STATEMENT", "FATAL"]),
            "message": plain_message.filter(lambda m: not m.startswith("duration: ")),
        },
        lambda r: (
            f"{r['time'].astimezone(UTC):%Y-%m-%d %H:%M:%S}.{r['time'].microsecond // 1000:03} "
            f"UTC [{r['pid']}] {r['user']}@{r['database']} {r['level']}:  {r['message']}"
        ),
    ),
    "redis": written(
        {"pid": number, "time": millis.map(lambda t: t.replace(tzinfo=UTC)), "message": message},
        lambda r: (
            f"{r['pid']}:M {r['time'].day:02} {MONTHS[r['time'].month - 1]} "
            f"{r['time']:%Y %H:%M:%S}.{r['time'].microsecond // 1000:03} * {r['message']}"
        ),
    ),
    "dpkg": written(
        {
            "time": whole.map(lambda t: t.replace(tzinfo=UTC)),
            "action": st.sampled_from(["install", "upgrade", "remove"]),
            "package": names.map(str.lower).filter(lambda name: len(name) > 1),
            "arch": st.sampled_from(["amd64", "all"]),
            "previous": word_or_none,
            "version": word_or_none,
        },
        lambda r: (
            f"{r['time']:%Y-%m-%d %H:%M:%S} {r['action']} {r['package']}:{r['arch']} "
            f"{r['previous'] or '<none>'} {r['version'] or '<none>'}"
        ),
    ),
    "cef": written(
        {
            "vendor": message,
            "name": message,
            "severity": st.integers(0, 10),
            "version": number.map(lambda n: n % 9),
        },
        lambda r: (
            f"CEF:{r['version']}|{escaped_cef(r['vendor'])}|p|1|s|{escaped_cef(r['name'])}|"
            f"{r['severity']}|src=1.2.3.4"
        ),
    ),
}


def quoted(text):
    """As Go's ``strconv.Quote`` for what matters."""
    inner = "".join(
        f"\\{char}"
        if char in '"\\'
        else char
        if char.isprintable()
        else f"\\u{ord(char):04x}"
        if ord(char) < 0x10000
        else f"\\U{ord(char):08x}"
        for char in text
    )
    return f'"{inner}"'


def escaped_cef(text):
    return text.replace("\\", "\\\\").replace("|", "\\|")


naive = whole.map(lambda t: t.replace(tzinfo=UTC))
naive_millis = millis.map(lambda t: t.replace(tzinfo=UTC))
lower = st.text(string.ascii_lowercase, min_size=2, max_size=8)
port = st.integers(1, 65535)
took = st.none() | st.integers(0, 10**6).map(lambda n: n / 1000)
level = st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
METHODS = st.sampled_from(["GET", "POST"])


def stamp(t, mark=" ", point=","):
    return f"{t:%Y-%m-%d}{mark}{t:%H:%M:%S}{point}{t.microsecond // 1000:03}"


def to_millis(seconds):
    return "-1" if seconds is None else str(round(seconds * 1000))


def to_seconds(seconds):
    return "-1" if seconds is None else f"{seconds:.6f}"


def haproxy(r):
    t = r["time"]
    before = f"Oct 10 13:55:36 {r['host']} haproxy[7]: " if r["host"] else ""
    moment = f"{t.day:02}/{MONTHS[t.month - 1]}/{t.year}:{t:%H:%M:%S}.{t.microsecond // 1000:03}"
    times = "/".join(to_millis(r[f"time_{name}"]) for name in HAPROXY_TIMES)
    return (
        f"{before}{r['client']}:{r['port']} [{moment}] {r['frontend']} {r['backend']}/{r['server']} "
        f"{times} {r['status']} {r['size']} - - ---- 1/2/3/4/{r['retries']} 0/0 "
        f'"{r["method"]} {r["path"]} HTTP/1.1"'
    )


HAPROXY_TIMES = ("request", "queue", "connect", "response", "total")


def balanced(r, target):
    times = " ".join(to_seconds(r[f"time_{name}"]) for name in ("request", target, "response"))
    return (
        f"{r['time'].isoformat()} {r['balancer']} {r['client']}:{r['port']} {nil(r[target])} {times} "
        f"{r['status']} {nil(r[target + '_status'])} {r['received']} {r['sent']} "
        f'"{r["method"]} {r["url"]} HTTP/1.1" "{web_quoted(nil(r["agent"]))}" {nil(r["cipher"])} TLSv1.3'
    )


def balanced_fields(target):
    return {
        "time": moments,
        "balancer": words,
        "client": st.ip_addresses(v=4).map(str),
        "port": port,
        target: st.none() | st.tuples(st.ip_addresses(v=4), port).map(lambda t: f"{t[0]}:{t[1]}"),
        "time_request": took,
        f"time_{target}": took,
        "time_response": took,
        "status": st.integers(100, 599),
        f"{target}_status": st.none() | st.integers(100, 599),
        "received": number,
        "sent": number,
        "method": METHODS,
        "url": names.map(lambda name: f"https://{name}.example:443/{name}"),
        "agent": text_or_none,
        "cipher": word_or_none,
    }


def alb(r):
    late = '"-" "example.com" "session-reused" 7'
    if r["created"] is not None:
        late += f' {r["created"].isoformat()} "forward" "-" "-"'
    return f"{r['type']} {balanced(r, 'target')} arn:aws:x {late}"


def apt(r):
    def packages(key):
        return ", ".join(
            f"{p['package']}:{p['arch']} ("
            + (f"{p['previous']}, " if p["previous"] else "")
            + p["version"]
            + (", automatic" if p["automatic"] else "")
            + ")"
            for p in r[key]
        )

    lines = [
        f"Start-Date: {r['start_date']:%Y-%m-%d  %H:%M:%S}",
        f"Commandline: {r['commandline']}",
    ]
    lines += [f"{key.title()}: {packages(key)}" for key in ("install", "upgrade") if r[key]]
    return "\n".join([*lines, f"End-Date: {r['end_date']:%Y-%m-%d  %H:%M:%S}"])


package = st.fixed_dictionaries(
    {
        "package": lower,
        "arch": st.sampled_from(["amd64", "all"]),
        "version": names,
        "previous": st.none() | names,
        "automatic": st.booleans(),
    }
)


def python_traceback(r):
    frames = "".join(
        f'  File "{r["file"]}.py", line {n}, in f\n    f()\n' for n in range(r["frames"])
    )
    told = "" if r["message"] is None else f": {r['message']}"
    return f"Traceback (most recent call last):\n{frames}{r['exception']}{told}"


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
simple_message = plain_message.filter(lambda m: m[0].isalnum() and ": " not in m)

WRITERS |= {
    "nginx.main": written(
        {**ACCESS, "agent": text_or_none, "forwarded_for": st.none() | ips},
        lambda r: f'{access(r)} "-" "{web_quoted(nil(r["agent"]))}" "{nil(r["forwarded_for"])}"',
    ),
    "apache.vhost_combined": written(
        {**ACCESS, "server": lower, "port": port, "referer": text_or_none},
        lambda r: f'{r["server"]}:{r["port"]} {access(r)} "{web_quoted(nil(r["referer"]))}" "-"',
    ),
    "syslog.file": written(
        {"host": names, "app": names, "pid": number, "message": message},
        lambda r: f"Oct 10 13:55:36 {r['host']} {r['app']}[{r['pid']}]: {r['message']}",
    ),
    "syslog.iso": written(
        {
            "time": moments,
            "host": names,
            "app": names,
            "pid": st.none() | number,
            "message": message,
        },
        lambda r: (
            f"{r['time'].isoformat()} {r['host']} {r['app']}"
            + ("" if r["pid"] is None else f"[{r['pid']}]")
            + f": {r['message']}"
        ),
    ),
    "haproxy.http": written(
        {
            "host": st.none() | lower,
            "client": ips,
            "port": port,
            "time": naive_millis,
            "frontend": names,
            "backend": names,
            "server": names,
            **{f"time_{name}": took for name in HAPROXY_TIMES},
            "status": st.integers(100, 599),
            "size": number,
            "retries": st.integers(0, 9),
            "method": METHODS,
            "path": words.map(lambda word: f"/{word}"),
        },
        haproxy,
    ),
    "aws.alb": written(
        {
            "type": st.sampled_from(["http", "https", "h2", "grpcs", "ws", "wss"]),
            **balanced_fields("target"),
            "created": st.none() | moments,
        },
        alb,
    ),
    "aws.elb": written(balanced_fields("backend"), lambda r: balanced(r, "backend")),
    "kubernetes.audit": written(
        {
            "kind": st.just("Event"),
            "apiVersion": st.just("audit.k8s.io/v1"),
            "verb": names,
            "sourceIPs": st.lists(ips, max_size=2),
            "stageTimestamp": moments,
        },
        lambda r: json.dumps(
            {"kind": "Event", "apiVersion": r["apiVersion"], **r},
            separators=(",", ":"),
            default=datetime.isoformat,
        ),
    ),
    "go.slog": written(
        {
            "time": moments,
            "level": st.sampled_from(["DEBUG", "WARN+2"]),
            "msg": message,
            "n": number,
        },
        lambda r: (
            f"time={r['time'].isoformat(timespec='microseconds')} level={r['level']} "
            f"msg={quoted(r['msg'])} n={r['n']}"
        ),
    ),
    "apt.history": written(
        {
            "start_date": naive,
            "end_date": naive,
            "commandline": simple_message,
            "install": st.lists(package, min_size=1, max_size=2),
            "upgrade": st.lists(package, min_size=1, max_size=2),
        },
        apt,
    ),
    "alternatives": written(
        {"time": naive, "group": names, "target": names.map(lambda name: f"/usr/bin/{name}")},
        lambda r: (
            f"update-alternatives {r['time']:%Y-%m-%d %H:%M:%S}: link group {r['group']} "
            f"updated to point to {r['target']}"
        ),
    ),
    "journal.export": written(
        {
            "time": moments,
            "message": message,
            "severity": st.integers(0, 7),
            "pid": number,
            "TAG": names,
        },
        lambda r: (
            f"__CURSOR=x\n__REALTIME_TIMESTAMP={(r['time'] - EPOCH) // timedelta(microseconds=1)}\n"
            f"MESSAGE={r['message']}\nPRIORITY={r['severity']}\n_PID={r['pid']}\nTAG={r['TAG']}\n"
        ),
    ),
    "kernel": written(
        {
            "uptime": st.integers(0, 10**9).map(lambda n: n / 10**6),
            "subsystem": st.none() | names,
            "message": simple_message,
        },
        lambda r: (
            f"[{r['uptime']:12.6f}] {r['subsystem'] + ': ' if r['subsystem'] else ''}{r['message']}"
        ),
    ),
    "python.traceback": written(
        {
            "file": names,
            "frames": st.integers(0, 3),
            "exception": names,
            "message": st.none() | plain_message,
        },
        python_traceback,
    ).map(lambda pair: (pair[0], {k: v for k, v in pair[1].items() if k != "file"})),
    "java.stacktrace": written(
        {
            "exception": lower.map(lambda name: f"com.{name}.BadException"),
            "message": st.none() | plain_message,
            "frames": st.integers(0, 3),
        },
        lambda r: (
            r["exception"]
            + ("" if r["message"] is None else f": {r['message']}")
            + "\n\tat a.B.c(B.java:1)" * r["frames"]
        ),
    ),
    "go.panic": written(
        {"exception": st.just("panic"), "message": plain_message, "frames": st.integers(0, 3)},
        lambda r: (
            f"panic: {r['message']}\n\ngoroutine 1 [running]:"
            + "\nf()\n\t/x.go:7 +0x1" * r["frames"]
        ),
    ),
    "python.gunicorn": written(
        {"time": whole, "pid": number, "level": level, "message": message},
        lambda r: f"[{r['time']:%Y-%m-%d %H:%M:%S %z}] [{r['pid']}] [{r['level']}] {r['message']}",
    ),
    "python.uvicorn": written(
        {
            "level": level,
            "client": ips.map("{}:80".format),
            "method": METHODS,
            "path": words.map("/{}".format),
            "status": st.integers(100, 599),
        },
        lambda r: (
            f'{r["level"] + ":":9} {r["client"]} - "{r["method"]} {r["path"]} HTTP/1.1" {r["status"]}'
            if len(r["level"]) < 8
            else f'{r["level"]}:  {r["client"]} - "{r["method"]} {r["path"]} HTTP/1.1" {r["status"]}'
        ),
    ),
    "java.spring": written(
        {
            "time": millis,
            "level": st.sampled_from(["INFO", "WARN", "ERROR"]),
            "pid": number,
            "thread": names,
            "logger": names,
            "message": message,
        },
        lambda r: (
            f"{r['time'].isoformat(timespec='milliseconds')} {r['level']:>5} {r['pid']} --- "
            f"[{r['thread']:>15}] {r['logger']:<20} : {r['message']}"
        ),
    ),
    "java.logback": written(
        {
            "clock": naive_millis.map(lambda t: f"{t:%H:%M:%S}.{t.microsecond // 1000:03}"),
            "thread": names,
            "level": st.sampled_from(["TRACE", "INFO"]),
            "logger": names,
            "message": message,
        },
        lambda r: f"{r['clock']} [{r['thread']}] {r['level']:5} {r['logger']} - {r['message']}",
    ),
    "java.util.logging": written(
        {"time": naive, "logger": names, "method": names},
        lambda r: (
            f"{MONTHS[r['time'].month - 1]} {r['time'].day:02}, {r['time'].year} "
            f"{r['time'].hour % 12 or 12}:{r['time']:%M:%S} {'AP'[r['time'].hour > 11]}M "
            f"{r['logger']} {r['method']}"
        ),
    ),
    "go.zap": written(
        {
            "time": millis,
            "level": st.sampled_from(["info", "ERROR"]),
            "caller": names.map(lambda name: f"{name}/main.go:7"),
            "message": simple_message.filter(lambda m: "\t" not in m),
            "data": st.none() | st.dictionaries(names, number, max_size=2),
        },
        lambda r: (
            f"{r['time'].isoformat()}\t{r['level']}\t{r['caller']}\t{r['message']}"
            + ("" if r["data"] is None else f"\t{json.dumps(r['data'])}")
        ),
    ),
    "app": written(
        {
            "time": naive_millis,
            "level": level,
            "logger": st.none() | names,
            "message": simple_message,
        },
        lambda r: (
            f"{stamp(r['time'])} [{r['level']}] "
            + ("" if r["logger"] is None else f"{r['logger']}: ")
            + r["message"]
        ),
    ),
}
