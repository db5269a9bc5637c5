"""Sample lines of every format that is built in, and some of what is read in them."""

from datetime import UTC, datetime, timedelta, timezone

T = datetime(2026, 10, 10, 13, 55, 36, tzinfo=UTC)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
PLUS_TWO = timezone(timedelta(hours=2))


def ms(milliseconds):
    return T + timedelta(milliseconds=milliseconds)


_UA = '"-" "curl/8.1"'
_PODS = "/apis/apps/v1/deployments"

SAMPLES = {
    "nginx.combined": {
        '10.0.0.7 - ada [10/Oct/2026:15:55:36 +0200] "GET /a?b=1 HTTP/1.1" 200 2326 '
        '"https://x/" "Mozilla/5.0 (X11; \\x22q\\x22)"': {
            "client": "10.0.0.7",
            "ident": None,
            "user": "ada",
            "time": T,
            "method": "GET",
            "path": "/a?b=1",
            "protocol": "HTTP/1.1",
            "request": None,
            "status": 200,
            "size": 2326,
            "referer": "https://x/",
            "agent": 'Mozilla/5.0 (X11; "q")',
        },
        f'::1 - - [10/Oct/2026:13:55:36 +0000] "\\x16\\x03\\x01" 400 - {_UA}': {
            "client": "::1",
            "user": None,
            "method": None,
            "request": "\x16\x03\x01",
            "status": 400,
            "size": None,
            "referer": None,
        },
        f'h - two words [10/Oct/2026:13:55:36 +0000] "PUT /\\xc3\\xa9 HTTP/2.0" 204 0 {_UA}': {
            "user": "two words",
            "path": "/\u00e9",
        },
        f'h - - [10/Oct/2026:13:55:36 +0000] "-" 408 0 {_UA}': {"request": None, "status": 408},
        f'h a b [10/Oct/2026:13:55:36 +0000] "GET / HTTP/1.1" 200 0 {_UA}': {
            "ident": "a",
            "user": "b",
        },
    },
    "nginx.common": {
        '127.0.0.1 id frank [10/Oct/2026:13:55:36 +0000] "GET /a.gif HTTP/1.0" 200 7': {
            "ident": "id",
            "user": "frank",
            "size": 7,
        },
    },
    "nginx.main": {
        f'10.0.0.7 - - [10/Oct/2026:13:55:36 +0000] "GET / HTTP/1.1" 200 2 {_UA} "1.2.3.4, 5.6.7.8"': {
            "forwarded_for": "1.2.3.4, 5.6.7.8",
            "agent": "curl/8.1",
        },
    },
    "apache.vhost_combined": {
        f'shop.example:443 10.0.0.7 - - [10/Oct/2026:13:55:36 +0000] "GET / HTTP/1.1" 200 2 {_UA}': {
            "server": "shop.example",
            "port": 443,
            "client": "10.0.0.7",
        },
    },
    "nginx.error": {
        '2026/10/10 13:55:36 [error] 12#13: *9 open() "/x" failed (2: No such file), '
        'client: 10.0.0.7, server: _, request: "GET /x HTTP/1.1", upstream: "http://1.2.3.4:80/", '
        'host: "shop", referrer: "http://y"': {
            "time": T,
            "level": "error",
            "pid": 12,
            "thread": 13,
            "connection": 9,
            "message": 'open() "/x" failed (2: No such file)',
            "client": "10.0.0.7",
            "server": "_",
            "request": "GET /x HTTP/1.1",
            "upstream": "http://1.2.3.4:80/",
            "host": "shop",
            "referrer": "http://y",
        },
        "2026/10/10 13:55:36 [notice] 12#12: signal process started": {
            "connection": None,
            "message": "signal process started",
            "client": None,
        },
        "2026/10/10 13:55:36 [info] 1#1: *2 odd, client: 1.2.3.4, and more": {
            "message": "odd, client: 1.2.3.4, and more",
            "client": None,
        },
    },
    "apache.error": {
        "[Sat Oct 10 13:55:36.123456 2026] [core:error] [pid 7:tid 8] [client 10.0.0.7:555] "
        "AH00128: File does not exist: /x": {
            "time": T.replace(microsecond=123456),
            "module": "core",
            "level": "error",
            "pid": 7,
            "thread": 8,
            "client": "10.0.0.7:555",
            "code": "AH00128",
            "message": "File does not exist: /x",
        },
        "[Sat Oct 10 13:55:36 2026] [error] [client 10.0.0.7] File does not exist: /x": {
            "module": None,
            "level": "error",
            "client": "10.0.0.7",
        },
    },
    "syslog.rfc5424": {
        '<165>1 2026-10-10T13:55:36.003Z web1 shop 42 ID47 [ex@32473 a="3" b="q \\"x\\" \\]"]'
        "[two@1] \ufeffstarted": {
            "facility": "local4",
            "severity": 5,
            "level": "notice",
            "version": 1,
            "time": ms(3),
            "host": "web1",
            "app": "shop",
            "pid": 42,
            "procid": None,
            "msgid": "ID47",
            "data": {"ex@32473": {"a": "3", "b": 'q "x" ]'}, "two@1": {}},
            "message": "started",
        },
        '<34>1 2026-10-10T15:55:36+02:00 web1 su abc - [o a="1" b="2"]': {
            "time": T,
            "pid": None,
            "procid": "abc",
            "msgid": None,
            "data": {"o": {"a": "1", "b": "2"}},
            "message": None,
        },
        '<0>1 - - - - - [id] said "x"]': {
            "facility": "kern",
            "time": None,
            "host": None,
            "data": {"id": {}},
            "message": 'said "x"]',
        },
        '<191>1 - - - - - [a x="1"][b y="2"] m': {"data": {"a": {"x": "1"}, "b": {"y": "2"}}},
        '<191>1 - - - - - [a x="1"] m': {"data": {"a": {"x": "1"}}},
        '<191>1 - - - - - [a x="1" y="2" z=""] m': {"data": {"a": {"x": "1", "y": "2", "z": ""}}},
        "<13>1 2026-10-10T13:55:36Z h a 1 - - plain": {"data": None, "message": "plain"},
    },
    "syslog.rfc3164": {
        "<34>Oct 10 13:55:36 web1 su[230]: 'su root' failed": {
            "facility": "auth",
            "severity": 2,
            "level": "crit",
            "time": T,
            "host": "web1",
            "app": "su",
            "pid": 230,
            "message": "'su root' failed",
        },
        "<13>Oct 10 13:55:36 ada: hello": {"host": None, "app": "ada", "message": "hello"},
        "<13>2026-10-10T13:55:36Z web1 app: hello": {"time": T, "host": "web1", "app": "app"},
    },
    "syslog.file": {
        "Oct 10 13:55:36 combo sshd(pam_unix)[19939]: authentication failure; uid=0": {
            "time": T,
            "host": "combo",
            "app": "sshd(pam_unix)",
            "pid": 19939,
            "message": "authentication failure; uid=0",
        },
        "Oct 10 13:55:36 combo last message repeated 2 times": {
            "host": "combo",
            "app": None,
            "message": "last message repeated 2 times",
        },
        f'Oct 10 13:55:36 web nginx: h - - [10/Oct/2026:13:55:36 +0000] "-" 408 0 {_UA}': {
            "app": "nginx",
        },
        "Oct 10 13:55:36 fe80::1 kernel: [  1.5] usb": {"host": "fe80::1", "app": "kernel"},
    },
    "syslog.iso": {
        "2026-10-10T13:55:36.123456+00:00 web1 systemd[1]: Started x.": {
            "time": T.replace(microsecond=123456),
            "host": "web1",
            "app": "systemd",
            "pid": 1,
            "message": "Started x.",
        },
        "2026-10-10T13:55:36+0000 web1 kernel: x": {"app": "kernel", "pid": None},
    },
    "cef": {
        "CEF:0|Secu\\|rity|threatmanager|1.0|100|worm stopped|10|src=10.0.0.1 msg=two words a\\=b "
        "spt=1232 rt=1791640536000 cs1=x\\ny": {
            "logged": None,
            "version": 0,
            "vendor": "Secu|rity",
            "product": "threatmanager",
            "device_version": "1.0",
            "signature": "100",
            "name": "worm stopped",
            "severity": 10,
            "extension": {
                "src": "10.0.0.1",
                "msg": "two words a=b",
                "spt": 1232,
                "rt": T,
                "cs1": "x\ny",
            },
        },
        "<13>Oct 10 13:55:36 host CEF:0|a|b|c|d|e|Very-High|": {
            "logged": T,
            "host": "host",
            "severity": 10,
            "extension": {},
        },
        "Oct 10 13:55:36 host CEF:1|a|b|c|d|e|Unknown|spt=x": {
            "severity": None,
            "extension": {"spt": "x"},
        },
    },
    "haproxy.http": {
        "Oct 10 13:55:36 lb1 haproxy[14389]: 10.0.1.2:33317 [10/Oct/2026:13:55:36.655] http-in "
        "static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "
        '"GET /index.html HTTP/1.1"': {
            "logged": T,
            "host": "lb1",
            "app": "haproxy",
            "pid": 14389,
            "client": "10.0.1.2",
            "port": 33317,
            "time": ms(655),
            "frontend": "http-in",
            "backend": "static",
            "server": "srv1",
            "time_request": 0.01,
            "time_total": 0.109,
            "status": 200,
            "size": 2750,
            "termination": "----",
            "active": 1,
            "retries": 0,
            "request_headers": "1wt.eu",
            "response_headers": "",
            "method": "GET",
            "path": "/index.html",
        },
        "::1:80 [10/Oct/2026:13:55:36.655] in~ in/<NOSRV> -1/-1/-1/-1/+5 -1 +0 a=b - PR-- "
        '2/1/0/0/+3 0/0 "<BADREQ>"': {
            "logged": None,
            "client": "::1",
            "port": 80,
            "time_queue": None,
            "status": None,
            "request_cookie": "a=b",
            "request": "<BADREQ>",
        },
    },
    "postgresql": {
        "2026-10-10 13:55:36.123 UTC [42] postgres@shop LOG:  statement: select 1": {
            "time": ms(123),
            "pid": 42,
            "user": "postgres",
            "database": "shop",
            "level": "LOG",
            "message": "statement: select 1",
            "duration": None,
        },
        "2026-10-10 15:55:36.123 CEST [42] LOG:  database system is ready": {
            "time": ms(123),
            "user": None,
            "message": "database system is ready",
        },
        "2026-10-10 10:55:36 -03 [42-7] ERROR:  no": {"time": T, "line": 7, "level": "ERROR"},
        "2026-10-10 15:55:36 +02:00 [42] LOG:  duration: 12.345 ms  statement: select 2": {
            "time": T,
            "duration": 0.012345,
            "statement": "select 2",
            "message": None,
        },
        "2026-10-10 13:55:36 UTC [42] LOG:  duration: 1.000 ms": {
            "duration": 0.001,
            "statement": None,
        },
    },
    "redis": {
        "1234:M 10 Oct 2026 13:55:36.123 * Ready to accept connections": {
            "pid": 1234,
            "role": "master",
            "time": ms(123),
            "level": "notice",
            "message": "Ready to accept connections",
        },
    },
    "cri": {
        "2026-10-10T13:55:36.003000000Z stdout F hello {} ": {
            "time": ms(3),
            "stream": "stdout",
            "partial": False,
            "message": "hello {} ",
        },
        "2026-10-10T13:55:36Z stderr P half": {"stream": "stderr", "partial": True},
    },
    "docker.json": {
        '{"log":"hello\\n","stream":"stdout","time":"2026-10-10T13:55:36.003Z"}': {
            "time": ms(3),
            "stream": "stdout",
            "message": "hello",
            "partial": False,
            "attributes": None,
        },
        '{"log":"half","stream":"stderr","attrs":{"a":"b"},"time":"2026-10-10T13:55:36Z"}': {
            "partial": True,
            "attributes": {"a": "b"},
        },
    },
    "kubernetes.audit": {
        '{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"x",'
        f'"stage":"ResponseComplete","requestURI":"{_PODS}","verb":"list","sourceIPs":["::1"],'
        '"requestReceivedTimestamp":"2026-10-10T13:55:36.003000Z",'
        '"stageTimestamp":"2026-10-10T13:55:36.004000Z"}': {
            "verb": "list",
            "requestReceivedTimestamp": ms(3),
            "stageTimestamp": ms(4),
        },
    },
    "aws.alb": {
        "https 2026-10-10T13:55:36.003000Z app/my/50dc 192.168.131.39:2817 10.0.0.1:80 0.086 0.048 "
        '0.037 200 200 0 57 "GET https://www.example.com:443/ HTTP/1.1" "curl/7.46.0" '
        "ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:x/73e2 "
        '"Root=1-58337281" "www.example.com" "arn:aws:acm:1" 1 2026-10-10T13:55:36.000000Z '
        '"authenticate,forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_1234': {
            "type": "https",
            "time": ms(3),
            "balancer": "app/my/50dc",
            "client": "192.168.131.39",
            "port": 2817,
            "target": "10.0.0.1:80",
            "time_request": 0.086,
            "status": 200,
            "target_status": 200,
            "received": 0,
            "sent": 57,
            "method": "GET",
            "url": "https://www.example.com:443/",
            "trace": "Root=1-58337281",
            "rule": 1,
            "created": T,
            "actions": "authenticate,forward",
            "redirect_url": None,
            "targets": "10.0.0.1:80",
            "more": "TID_1234",
        },
        "http 2026-10-10T13:55:36.003000Z app/my/50dc 192.168.131.39:2817 - -1 -1 -1 502 - 34 366 "
        '"- http://x- -" "-" - - arn:aws:x/73e2 "Root=1" "-" "-" 0': {
            "target": None,
            "time_target": None,
            "target_status": None,
            "protocol": None,
            "created": None,
        },
    },
    "aws.elb": {
        "2026-10-10T13:55:36.003000Z my-elb 192.168.131.39:2817 10.0.0.1:80 0.000073 0.001048 "
        '0.000057 200 200 0 29 "GET http://www.example.com:80/ HTTP/1.1" "curl/7.38.0" - -': {
            "balancer": "my-elb",
            "backend": "10.0.0.1:80",
            "time_backend": 0.001048,
            "backend_status": 200,
            "agent": "curl/7.38.0",
            "cipher": None,
        },
    },
    "glog": {
        "I1010 13:55:36.003000    4242 server.go:7] ready": {
            "level": "INFO",
            "time": ms(3),
            "thread": 4242,
            "file": "server.go",
            "line": 7,
            "message": "ready",
        },
        f'I1010 13:55:36.003000    4242 a.go:7] h - - [10/Oct/2026:13:55:36 +0000] "-" 408 0 {_UA}': {
            "thread": 4242,
        },
        "F20261010 13:55:36.003000 1 a/b.cc:12] x": {"level": "FATAL", "time": ms(3)},
    },
    "go.slog": {
        'time=2026-10-10T13:55:36.003Z level=INFO msg="hello \\"x\\"" count=3 ok=true': {
            "time": ms(3),
            "level": "INFO",
            "msg": 'hello "x"',
            "count": 3,
            "ok": True,
        },
    },
    "dpkg": {
        "2026-10-10 13:55:36 startup archives unpack": {
            "time": T,
            "action": "startup",
            "type": "archives",
            "command": "unpack",
        },
        "2026-10-10 13:55:36 status half-installed libc-bin:amd64 2.36-9": {
            "action": "status",
            "state": "half-installed",
            "package": "libc-bin",
            "arch": "amd64",
            "version": "2.36-9",
        },
        "2026-10-10 13:55:36 install tzdata:all <none> 2026a": {
            "action": "install",
            "previous": None,
            "version": "2026a",
        },
        "2026-10-10 13:55:36 conffile /etc/x keep": {"file": "/etc/x", "decision": "keep"},
    },
    "apt.history": {
        "Start-Date: 2026-10-10  13:55:36\nCommandline: apt-get install x\n"
        "Requested-By: ada (1000)\nInstall: x:amd64 (1.0), y:amd64 (2.0, automatic)\n"
        "Upgrade: z:amd64 (1, 2)\nEnd-Date: 2026-10-10  13:55:37": {
            "start_date": T,
            "end_date": T + timedelta(seconds=1),
            "commandline": "apt-get install x",
            "requested_by": "ada (1000)",
            "install": [
                {
                    "package": "x",
                    "arch": "amd64",
                    "version": "1.0",
                    "previous": None,
                    "automatic": False,
                },
                {
                    "package": "y",
                    "arch": "amd64",
                    "version": "2.0",
                    "previous": None,
                    "automatic": True,
                },
            ],
            "upgrade": [
                {
                    "package": "z",
                    "arch": "amd64",
                    "version": "2",
                    "previous": "1",
                    "automatic": False,
                },
            ],
            "remove": None,
        },
        "Commandline: apt upgrade": {"commandline": "apt upgrade", "start_date": None},
    },
    "alternatives": {
        "update-alternatives 2026-10-10 13:55:36: link group vi updated to point to /usr/bin/vim": {
            "time": T,
            "group": "vi",
            "target": "/usr/bin/vim",
            "message": None,
        },
        "update-alternatives 2026-10-10 13:55:36: run with --auto vi": {"arguments": "--auto vi"},
        "update-alternatives 2026-10-10 13:55:36: odd": {"message": "odd", "arguments": None},
    },
    "journal.export": {
        "__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1791640536000000\nPRIORITY=6\n_PID=42\n"
        "MESSAGE=hello\nTAG=a\nTAG=b\nTAG=c\n_UID=x": {
            "time": T,
            "severity": 6,
            "pid": 42,
            "message": "hello",
            "host": None,
            "TAG": ["a", "b", "c"],
            "__CURSOR": "s=1;i=2",
            "_UID": None,
        },
    },
    "kernel": {
        "[   12.345678] usb 1-1: new device": {
            "uptime": 12.345678,
            "subsystem": "usb 1-1",
            "message": "new device",
        },
        "[    0.000000] Linux version 6.1": {"subsystem": None, "message": "Linux version 6.1"},
    },
    "python.traceback": {
        'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    f()\n'
        '  File "a.py", line 2, in f\nValueError: bad value': {
            "exception": "ValueError",
            "message": "bad value",
            "frames": 2,
        },
        "Traceback (most recent call last):": {"exception": None, "frames": 0},
        'Traceback (most recent call last):\n  File "a.py", line 1\nE: two\n lines': {
            "exception": "E",
            "message": "two",
        },
        '  + Exception Group Traceback (most recent call last):\n  |   File "a.py", line 1\n'
        "  | ExceptionGroup: two (2 sub-exceptions)\n  +-+---- 1 ----\n    | ValueError: 1": {
            "exception": "ExceptionGroup",
            "message": "two (2 sub-exceptions)",
            "frames": 1,
        },
    },
    "java.stacktrace": {
        'Exception in thread "main" java.lang.IllegalStateException: bad\n'
        "\tat com.shop.Main.main(Main.java:7)\n\t... 3 more": {
            "exception": "java.lang.IllegalStateException",
            "message": "bad",
            "frames": 1,
        },
        "java.io.IOException": {"exception": "java.io.IOException", "message": None, "frames": 0},
    },
    "go.panic": {
        "panic: runtime error: index out of range\n\ngoroutine 1 [running]:\nmain.main()\n"
        "\t/tmp/x.go:7 +0x1d": {
            "exception": "panic",
            "message": "runtime error: index out of range",
            "frames": 1,
        },
    },
    "json": {
        '{"level": "info", "took": 7.5, "ok": true, "none": null}': {"took": 7.5, "none": None},
        '{"x": NaN}': {},
        "{}": {},
    },
    "python.basic": {
        "WARNING:shop.orders:late: 7": {
            "level": "WARNING",
            "logger": "shop.orders",
            "message": "late: 7",
        },
    },
    "python.logging": {
        "2026-10-10 13:55:36,003 - shop.orders - ERROR - late - 7": {
            "time": ms(3),
            "logger": "shop.orders",
            "level": "ERROR",
            "message": "late - 7",
        },
        "2026-10-10 13:55:36,003 - ERROR - shop - late": {"logger": "shop", "message": "late"},
        "2026-10-10 13:55:36.003 25746 INFO nova.osapi [req-1 - -] x": {
            "pid": 25746,
            "level": "INFO",
            "logger": "nova.osapi",
            "message": "[req-1 - -] x",
        },
    },
    "python.gunicorn": {
        "[2026-10-10 13:55:36 +0000] [42] [INFO] Booting worker": {
            "time": T,
            "pid": 42,
            "level": "INFO",
            "message": "Booting worker",
        },
    },
    "python.uvicorn": {
        'INFO:     127.0.0.1:49152 - "GET /x HTTP/1.1" 200 OK': {
            "level": "INFO",
            "client": "127.0.0.1:49152",
            "path": "/x",
            "status": 200,
            "phrase": "OK",
        },
        "WARNING:  Started server process [7]": {"message": "Started server process [7]"},
    },
    "java.log4j": {
        "2026-10-10 13:55:36,003 [main] INFO  com.shop.Order - done": {
            "time": ms(3),
            "thread": "main",
            "level": "INFO",
            "logger": "com.shop.Order",
            "message": "done",
        },
        "2026-10-10 13:55:36,003 WARN [pool-1] org.hadoop.X: done": {"logger": "org.hadoop.X"},
        "2026-10-10 13:55:36,003 - INFO  [QuorumPeer[myid=1]/0:0:2181:Fast@774] - done": {
            "thread": "QuorumPeer[myid=1]/0:0:2181:Fast@774",
            "logger": None,
        },
        "2026-10-10T13:55:36.003Z [main] ERROR com.shop.Order:42 - done": {"line": 42},
    },
    "java.spring": {
        "2026-10-10T13:55:36.003Z  INFO 4242 --- [shop] [  main] o.s.b.Foo   : Started": {
            "level": "INFO",
            "pid": 4242,
            "app": "shop",
            "thread": "main",
            "logger": "o.s.b.Foo",
            "message": "Started",
        },
        "2026-10-10 13:55:36.003  INFO 1 --- [main] c.s.Main : x": {"app": None, "thread": "main"},
    },
    "java.logback": {
        "13:55:36.003 [main] INFO  com.shop.Order - done": {
            "clock": "13:55:36.003",
            "thread": "main",
            "logger": "com.shop.Order",
            "message": "done",
        },
        "176 [main] INFO  com.shop.Order - done": {"clock": None, "elapsed": 0.176},
    },
    "java.util.logging": {
        "Oct 10, 2026 1:55:36 PM com.shop.Main run": {
            "time": T,
            "logger": "com.shop.Main",
            "method": "run",
        },
    },
    "go.log": {
        "2026/10/10 13:55:36 ready": {"time": T, "file": None, "level": None, "message": "ready"},
        "2026/10/10 13:55:36.003000 a/b.go:7: ready": {"time": ms(3), "file": "a/b.go", "line": 7},
        "2026/10/10 13:55:36 INFO hello count=3": {"level": "INFO", "message": "hello count=3"},
    },
    "go.zap": {
        '2026-10-10T13:55:36.003Z\tINFO\tshop\tmain/main.go:7\tready\t{"n": 1}': {
            "logger": "shop",
            "caller": "main/main.go:7",
            "message": "ready",
            "data": {"n": 1},
        },
        "2026-10-10T13:55:36.003Z\twarn\tready": {"level": "warn", "message": "ready"},
    },
    "logfmt": {
        'level=info took=7 ratio=0.5 ok=true none= msg="a \\"b\\"\\n\\u00e9" id=007 '
        "at=2026-10-10T13:55:36Z": {
            "level": "info",
            "took": 7,
            "ratio": 0.5,
            "ok": True,
            "none": None,
            "msg": 'a "b"\n\u00e9',
            "id": "007",
            "at": T,
        },
        "time=later x=1": {"time": "later"},
        'm="\\U0001f600\\x41\\ud800\\U001fffff\\q\\t"': {"m": "\U0001f600A\ufffd\ufffdq\t"},
    },
    "app": {
        "2026-10-10 13:55:36 [WARN] shop.orders: late": {
            "time": T,
            "level": "WARN",
            "logger": "shop.orders",
            "message": "late",
        },
        "[2026-10-10 13:55:36.003] ERROR something broke": {"logger": None, "time": ms(3)},
        "2026-10-10 13:55:36 | info | x": {"level": "info"},
    },
}
