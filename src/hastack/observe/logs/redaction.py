"""What must not be seen in logs, taken out of them: in records and in raw lines.

A `Redactor` knows addresses of mail, tokens, numbers of payment cards, values whose names say that
they are secret, long random words, and IP addresses. It puts a mark in their place, or a keyed hash,
with which records can still be joined.
"""

from __future__ import annotations

import copy
import re
import threading
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

import attrs

from hastack._core import _validate
from hastack._core._errors import InvalidArgument
from hastack._core._fork import renew_in_child

from ._redact_names import Names
from ._redact_run import Policy, Run, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ._protocols import BatchLike, Record

__all__ = ("Action", "Redactor")

Action: TypeAlias = Literal["keep", "mask", "hash"]
"""What happens to what is found."""

_ACTIONS: Final = ("keep", "mask", "hash")
_LEAST_KEY: Final = 16  # bytes
_KEY_ID: Final = re.compile("[a-z0-9.-]{0,32}")


@final
class Redactor:
    """Takes what must not be seen out of records and lines.

    A value is replaced by ``[email]`` where it is masked, and by ``email#2026:apdm...`` where it is
    hashed: the kind, the name of the key, and 96 bits of BLAKE2b under that key, as 24 letters. Equal values have
    equal hashes, whatever their kind and wherever they are; without the key nobody can try values
    out. Masked IP addresses stay addresses: those of their network.

    Args:
        email: Addresses of people.
        token: Bearer tokens, passwords in URLs, JWT, private keys, and what AWS, GitHub, Slack,
            Google, Stripe and others give out.
        card: Numbers of payment cards, whose check digit is right.
        secret: Values whose name ends with ``password``, ``token``, ``cookie``, ``authorization``
            and the like, in records and in texts.
        random: Words of 32 characters or more that look as if drawn at random. Hashes, UUIDs and
            trace ids do not.
        ip: IP addresses. A mask leaves the network.
        fields: More names of fields whose values are secret; ``_``, ``-`` and capitals do not
            matter. A name with dots is a path.
        keep: Names of fields that are left as they are, whatever they hold.
        key: For hashes, 16 bytes or more. Whoever has it can try values out.
        key_id: Its name, to be seen beside each hash: ``a`` to ``z``, digits, ``.`` and ``-``.
        old_keys: Keys of before, by name; `digests` still knows them.
        ip_bits: How many bits of an IPv4 and of an IPv6 address a mask leaves.

    Raises:
        InvalidArgument: An action is none of ``keep``, ``mask`` and ``hash``; something is hashed
            and there is no key, or it is too short.

    Example:
        >>> from hastack.observe import logs
        >>> redactor = logs.Redactor(ip="mask")
        >>> redactor.text("ada@example.org paid with 4111 1111 1111 1111 from 203.0.113.7")
        '[email] paid with [card] from 203.0.113.0'
        >>> redactor.record({"user": "ada", "password": "x", "http": {"cookie": "a=b"}})
        {'user': 'ada', 'password': '[secret]', 'http': {'cookie': '[secret]'}}
    """

    def __init__(  # names of what is found
        self,
        *,
        email: Action = "mask",
        token: Action = "mask",  # noqa: S107  # a kind of what is found
        card: Action = "mask",
        secret: Action = "mask",  # noqa: S107  # as above
        random: Action = "mask",
        ip: Action = "keep",
        fields: Iterable[str] = (),
        keep: Iterable[str] = (),
        key: bytes | None = None,
        key_id: str = "",
        old_keys: Mapping[str, bytes] | None = None,
        ip_bits: tuple[int, int] = (24, 48),
    ) -> None:
        actions: dict[str, str] = {
            "email": email,
            "token": token,
            "card": card,
            "secret": secret,
            "random": random,
            "ip": ip,
        }
        for name, action in actions.items():
            if action not in _ACTIONS:
                raise InvalidArgument(name, action, "'keep', 'mask' or 'hash'")
        if "hash" in actions.values() and key is None:
            raise InvalidArgument("key", None, "a key, because something is hashed")
        self._keys = {} if key is None else {_key_id("key_id", key_id): _key("key", key)}
        for name, old in (old_keys or {}).items():
            self._keys.setdefault(_key_id("old_keys", name), _key("old_keys", old))
        wanted = secret != "keep"  # noqa: S105  # a kind of what is found
        self._policy = Policy(
            actions,
            Names(fields if wanted else (), keep, usual=wanted),
            key=key or b"",
            key_id=key_id,
            bits=_bits(ip_bits),
        )
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()
        renew_in_child(self)

    def __repr__(self) -> str:
        actions = ", ".join(f"{name}={action!r}" for name, action in self._policy.actions.items())
        return f"Redactor({actions})"

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    @property
    def counts(self) -> Mapping[str, int]:
        """How often something was replaced so far, by kind; ``"deep"`` is what was cut off."""
        with self._lock:
            return MappingProxyType(dict(self._counts))

    def digests(self, value: str) -> dict[str, str]:
        """The hash of a value under each key, by the name of the key: what to search for.

        Addresses of mail are hashed in small letters, numbers of cards without gaps.

        Example:
            >>> from hastack.observe import logs
            >>> redactor = logs.Redactor(email="hash", key=b"sixteen bytes...", key_id="2026")
            >>> redactor.text("ada@example.org").removeprefix("email#2026:") == (
            ...     redactor.digests("ada@example.org")["2026"]
            ... )
            True
        """
        return {name: digest(value, key) for name, key in self._keys.items()}

    def apply(self, batch: BatchLike) -> dict[str, int]:
        """Take out of a batch what must not be seen, where it is: of records and of rejected lines.

        Returns:
            How often something was replaced, by kind.

        Raises:
            InvalidArgument: A rejected line must not be seen as it is, and cannot be replaced.
        """
        run = Run(self._policy)
        run.records(batch.records)
        rejects: Any = getattr(batch, "rejects", ())
        lines = [_text(reject.line) for reject in rejects]
        for at in run.texts(lines):
            old = rejects[at]
            if not isinstance(rejects, list) or not attrs.has(type(old)):
                raise InvalidArgument("batch", type(rejects), "rejects in a list, each of attrs")
            line = lines[at] if isinstance(old.line, str) else lines[at].encode("latin-1")
            rejects[at] = attrs.evolve(old, line=line)
        return self._done(run.tally)

    def apply_records(self, records: Sequence[Record]) -> dict[str, int]:
        """The same for records."""
        run = Run(self._policy)
        run.records(records)
        return self._done(run.tally)

    def record(self, record: Mapping[str, object]) -> dict[str, Any]:
        """A copy of a record without what must not be seen."""
        found: dict[str, Any] = copy.deepcopy(dict(record))
        self.apply_records([found])
        return found

    def text(self, text: str) -> str:
        """A text without what must not be seen."""
        return self.lines([text])[0]

    def lines(self, lines: Iterable[str]) -> list[str]:
        """Lines without what must not be seen, in order; names of fields are found in them, too."""
        found = list(lines)
        for line in found:
            if not isinstance(line, str):
                raise InvalidArgument("lines", type(line), "texts")
        run = Run(self._policy)
        run.texts(found)
        self._done(run.tally)
        return found

    def _done(self, tally: dict[str, int]) -> dict[str, int]:
        if tally:
            with self._lock:
                for kind, count in tally.items():
                    self._counts[kind] = self._counts.get(kind, 0) + count
        return tally


def _text(line: str | bytes) -> str:
    """A line as text in which each byte is a character: what is looked for is ASCII."""
    return line if isinstance(line, str) else line.decode("latin-1")


def _key(parameter: str, key: object) -> bytes:
    # The message does not show what was given: it may be a key.
    if not isinstance(key, bytes) or not _LEAST_KEY <= len(key) <= blake2b.MAX_KEY_SIZE:
        raise InvalidArgument(parameter, type(key), f"{_LEAST_KEY} to {blake2b.MAX_KEY_SIZE} bytes")
    return key


def _key_id(parameter: str, name: object) -> str:
    if not isinstance(name, str) or not _KEY_ID.fullmatch(name):
        raise InvalidArgument(parameter, name, "at most 32 of a-z, 0-9, . and -")
    return name


def _bits(bits: tuple[int, int]) -> tuple[int, int]:
    try:
        v4, v6 = bits
    except (TypeError, ValueError):
        raise InvalidArgument("ip_bits", bits, "two numbers, such as (24, 48)") from None
    if _validate.integer("ip_bits", v4, minimum=0) > 32:
        raise InvalidArgument("ip_bits", v4, "at most 32 bits of an IPv4 address")
    if _validate.integer("ip_bits", v6, minimum=0) > 128:
        raise InvalidArgument("ip_bits", v6, "at most 128 bits of an IPv6 address")
    return v4, v6
