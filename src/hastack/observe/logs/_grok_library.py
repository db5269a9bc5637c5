"""The patterns that grok users expect to find, written from what their names say.

All are such that nothing in them has to be tried twice: see `_grok_build`, which refuses others.
"""

from __future__ import annotations

from ._times import CLF, ISO, SYSLOG
from ._values import INTEGER, IP, UUID

__all__ = ("LIBRARY",)

_MONTH = (
    "(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?"
    "|Sep(?:tember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
)
_DAY = "(?:Mon|Tue(?:s)?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?"
_LEVEL = (
    "(?i:trace|debug|info(?:rmation)?|notice|warn(?:ing)?|err(?:or)?|crit(?:ical)?|fatal|severe"
    "|emerg(?:ency)?|alert)"
)

LIBRARY: dict[str, str] = {
    # text
    "WORD": r"\w+",
    "NOTSPACE": r"\S+",
    "SPACE": r"\s*",
    "DATA": ".*?",
    "GREEDYDATA": ".*",
    "USERNAME": "[a-zA-Z0-9._-]+",
    "USER": "%{USERNAME}",
    "HTTPDUSER": "(?:%{EMAILADDRESS}|%{USERNAME})",
    "EMAILLOCALPART": "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}+",
    "EMAILADDRESS": "%{EMAILLOCALPART}@%{HOSTNAME}",
    "QUOTEDSTRING": (
        r'(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"|'
        r"'[^'\\]*+(?:\\.[^'\\]*+)*+'|`[^`\\]*+(?:\\.[^`\\]*+)*+`)"
    ),
    "QS": "%{QUOTEDSTRING}",
    # numbers
    "INT": INTEGER,
    "POSINT": "[1-9][0-9]{0,639}+",
    "NONNEGINT": "[0-9]{1,640}+",
    "BASE10NUM": r"[+-]?(?:[0-9]{1,320}+(?:\.[0-9]{1,320}+)?+|\.[0-9]{1,320}+)",
    "NUMBER": "%{BASE10NUM}",
    "BASE16NUM": "[+-]?(?:0x)?[0-9A-Fa-f]{1,512}+",
    "BOOL": "(?i:true|false|yes|no|on|off)",
    "UUID": UUID,
    # network
    "MAC": "(?:(?:[A-Fa-f0-9]{2}[:-]){5}[A-Fa-f0-9]{2}|(?:[A-Fa-f0-9]{4}[.]){2}[A-Fa-f0-9]{4})",
    "IPV4": r"(?:[0-9]{1,3}+\.){3}[0-9]{1,3}+",
    "IPV6": r"(?:[0-9A-Fa-f]{0,4}+:){2,7}+(?:(?:[0-9]{1,3}+\.){3}[0-9]{1,3}+|[0-9A-Fa-f]{0,4}+)",
    "IP": IP,
    "HOSTNAME": r"[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,62}+)(?:\.[0-9A-Za-z_][0-9A-Za-z_-]{0,62}+){0,63}+\.?",
    "IPORHOST": "(?:%{IP}|%{HOSTNAME})",
    "HOST": "%{HOSTNAME}",
    "HOSTPORT": "%{IPORHOST}:%{POSINT}",
    "URIPROTO": "[A-Za-z][A-Za-z0-9+.-]{0,31}+",
    "URIHOST": "%{IPORHOST}(?::%{POSINT})?+",
    "URIPATH": r"(?:/[A-Za-z0-9$.+!*'(){},~:;=@#%&_|-]*+)++",
    "URIPARAM": r"\?[A-Za-z0-9$.+!*'|(){},~@#%&/=:;_?<>\[\]^`-]*+",
    "URIPATHPARAM": "%{URIPATH}(?:%{URIPARAM})?+",
    "URI": "%{URIPROTO}://(?:[A-Za-z0-9._-]{1,64}+(?::[^@ ]{0,64}+)?+@)?+(?:%{URIHOST})?+(?:%{URIPATHPARAM})?+",
    # files
    "UNIXPATH": r"(?:/[\w%!$@:.,+~=()#-]*+)++",
    "WINPATH": r"(?:[A-Za-z]:|\\)(?:\\[^\\?*]*+)++",
    "PATH": "(?:%{UNIXPATH}|%{WINPATH})",
    "JAVACLASS": r"(?:[a-zA-Z$_][a-zA-Z$_0-9]*+\.)*+[a-zA-Z$_][a-zA-Z$_0-9]*+",
    "JAVAFILE": r"[A-Za-z0-9_. -]{1,255}+",
    # time
    "MONTH": _MONTH,
    "MONTHNUM": "(?:1[0-2]|0?[1-9])",
    "MONTHDAY": "(?:3[01]|[12][0-9]|0?[1-9])",
    "DAY": _DAY,
    "YEAR": "[0-9]{2}(?:[0-9]{2})?+",
    "HOUR": "(?:2[0-3]|[01]?[0-9])",
    "MINUTE": "[0-5][0-9]",
    "SECOND": r"(?:60|[0-5]?[0-9])(?:[:.,][0-9]{1,9}+)?+",
    "TIME": "%{HOUR}:%{MINUTE}(?::%{SECOND})?+",
    "TZ": "(?:[A-Z]{3,4}|Z)",
    "ISO8601_TIMEZONE": "(?:Z|[+-]%{HOUR}:?%{MINUTE})",
    "TIMESTAMP_ISO8601": ISO,
    "DATE_US": "%{MONTHNUM}[/-]%{MONTHDAY}[/-]%{YEAR}",
    "DATE_EU": "%{MONTHDAY}[./-]%{MONTHNUM}[./-]%{YEAR}",
    "DATE": "(?:%{DATE_US}|%{DATE_EU})",
    "DATESTAMP": "%{DATE}[- ]%{TIME}",
    "HTTPDATE": CLF,
    "SYSLOGTIMESTAMP": SYSLOG,
    # logs
    "LOGLEVEL": _LEVEL,
    "PROG": r"[^\s:\[\]]{1,128}+",
    "SYSLOGPROG": r"%{PROG:program}(?:\[%{POSINT:pid}\])?",
    "SYSLOGHOST": "%{IPORHOST}",
    "SYSLOGFACILITY": "<%{NONNEGINT:facility}.%{NONNEGINT:priority}>",
    "SYSLOGBASE": (
        "%{SYSLOGTIMESTAMP:timestamp} (?:%{SYSLOGFACILITY} )?%{SYSLOGHOST:logsource} %{SYSLOGPROG}:"
    ),
    "COMMONAPACHELOG": (
        r"%{IPORHOST:clientip} %{HTTPDUSER:ident} %{HTTPDUSER:auth} \[%{HTTPDATE:timestamp}\] "
        '"(?:%{WORD:verb} %{NOTSPACE:request}(?: HTTP/%{NUMBER:httpversion})?|%{DATA:rawrequest})" '
        "(?:-|%{NUMBER:response}) (?:-|%{NUMBER:bytes})"
    ),
    "COMBINEDAPACHELOG": "%{COMMONAPACHELOG} %{QS:referrer} %{QS:agent}",
    "HTTPD_COMMONLOG": "%{COMMONAPACHELOG}",
    "HTTPD_COMBINEDLOG": "%{COMBINEDAPACHELOG}",
}
