"""One pass over records or lines that takes out of them what must not be seen."""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime
from functools import partial
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final
from uuid import UUID

from . import _redact_find as find
from . import _redact_scan as scan
from ._redact_cards import is_card
from ._redact_ips import masked, parsed, written
from ._redact_names import plain
from ._value_types import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ._redact_names import Names

__all__ = ("Policy", "Run", "digest")

_Container: TypeAlias = "dict[Any, Any] | list[Any]"
_HARMLESS: Final = frozenset({float, bool, type(None), datetime, UUID})
_LONG_INT: Final = 10**12  # from here on an int may be the number of a card
_REMEMBERED: Final = 4096  # hashes, and the keys of objects
_DEEP: Final = 32  # levels of lists and objects within each other
_CHUNK: Final = 2048  # texts that are searched at once
_ROUNDS: Final = 4  # in which a text that was changed is searched again
_FINDERS: Final[tuple[tuple[str, int, Any], ...]] = (
    ("secret", scan.SECRET, find.secrets),  # first: others find parts of what is whole here
    ("token", scan.LOGIN, find.logins),
    ("token", scan.TOKEN, find.tokens),
    ("email", scan.EMAIL, find.emails),
    ("card", scan.CARD, find.cards),
    ("random", scan.RANDOM, find.random),
)


_LETTERS: Final = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


def digest(value: str, key: bytes) -> str:
    """96 bits of BLAKE2b under a key, in the letters a to p: digits might be found to be a card."""
    data = value.encode("utf-8", "surrogatepass")
    return blake2b(data, key=key, digest_size=12).hexdigest().translate(_LETTERS)


@final
class Plan:
    """What the keys of an object say: kept, secret, and those that must not be seen themselves."""

    __slots__ = ("kept", "renamed", "secret")

    def __init__(self) -> None:
        self.kept: set[Any] = set()
        self.secret: list[tuple[Any, bool]] = []
        self.renamed = False


@final
class Policy:
    """What happens to what is found.

    Args:
        actions: ``"keep"``, ``"mask"`` or ``"hash"`` for each kind.
        names: What the names of fields say.
        key: For hashes.
        key_id: Its name.
        bits: Of IPv4 and IPv6 addresses that a mask leaves.
    """

    def __init__(
        self,
        actions: Mapping[str, str],
        names: Names,
        *,
        key: bytes,
        key_id: str,
        bits: tuple[int, int],
    ) -> None:
        self.actions = actions
        self.names = names
        self.bits = bits
        self._key = key
        self._key_id = key_id
        self._hashes: dict[str, str] = {}
        self._addresses: dict[str, str] = {}
        self._plans: dict[Any, Plan | None] = {}

    def plan(self, container: Any, path: str) -> Plan | None:
        """What the keys of an object say, if anything; records with the same keys share it."""
        keys = tuple(container)
        found = (path, keys) if self.names.by_path else keys
        try:
            return self._plans[found]
        except KeyError:
            pass
        plan = self._new_plan(keys, path)
        if len(self._plans) >= _REMEMBERED:
            self._plans.clear()
        self._plans[found] = plan
        return plan

    def _new_plan(self, keys: tuple[Any, ...], path: str) -> Plan | None:
        plan = Plan()
        for key in keys:
            meaning = self.names.meaning(str(key), path)
            if meaning == "kept":
                plan.kept.add(key)
            elif meaning:
                plan.secret.append((key, meaning == "plural"))
        names = [key for key in keys if isinstance(key, str)]
        plan.renamed = bool(Run(self).texts(names))
        return plan if plan.kept or plan.secret or plan.renamed else None

    def address(self, text: str) -> str:
        """What stands for an address; for what is none, itself."""
        found = self._addresses.get(text)
        if found is None:
            address, part = parsed(text)
            if address is None:
                found = text
            elif self.actions["ip"] == "hash":
                found = self.hash("ip", written(address)) + text[len(part) :]
            else:
                left = masked(address, *self.bits)
                found = text if left == address else written(left) + text[len(part) :]
            if len(self._addresses) >= _REMEMBERED:
                self._addresses.clear()
            self._addresses[text] = found
        return found

    def hash(self, kind: str, value: str) -> str:
        """What stands for a value: equal for equal ones."""
        found = self._hashes.get(value)
        if found is None:
            found = digest(value, self._key)
            if len(self._hashes) >= _REMEMBERED:
                self._hashes.clear()
            self._hashes[value] = found
        return f"{kind}#{self._key_id}:{found}"


@final
class Run:
    """One pass over some records or lines."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._actions = policy.actions
        self.tally: dict[str, int] = {}
        self._steps: list[tuple[int, Callable[[str], str]]] = [
            (flag, partial(finder, replace=partial(self._replaced, kind)))
            for kind, flag, finder in _FINDERS
            if self._actions[kind] != "keep"
        ]
        if self._actions["ip"] != "keep":
            self._steps.append((scan.IP, partial(find.ips, replace=self._ip)))
        self._wanted = sum(flag for flag, _ in self._steps)

    def _count(self, kind: str) -> None:
        self.tally[kind] = self.tally.get(kind, 0) + 1

    def _replaced(self, kind: str, value: str) -> str:
        self._count(kind)
        if self._actions[kind] == "hash":
            return self._policy.hash(kind, value)
        return f"[{kind}]"

    def _ip(self, text: str) -> str:
        """For what looks like an address."""
        new = self._policy.address(text)
        if new != text:
            self._count("ip")
        return new

    def texts(self, texts: list[str]) -> list[int]:
        """Replace those of the texts in which something is found; which they were."""
        changed: list[int] = []
        for start in range(0, len(texts), _CHUNK):
            which = range(start, min(start + _CHUNK, len(texts)))
            todo = self._once(texts, which, self._wanted)
            changed += todo
            for _ in range(_ROUNDS):  # what stood beside something may be whole only now
                if todo:  # names were first, and no mark makes one
                    todo = self._once(texts, todo, self._wanted & ~scan.SECRET)
        return changed

    def _once(self, texts: list[str], which: Sequence[int], wanted: int) -> list[int]:
        changed = []
        for at, flags in scan.suspects([texts[n] for n in which], wanted).items():
            old = new = texts[which[at]]
            for flag, step in self._steps:
                if flags & flag:
                    new = step(new)
            if new != old:
                texts[which[at]] = new
                changed.append(which[at])
        return changed

    def records(self, records: Sequence[dict[Any, Any]]) -> None:
        """Replace within records, one level of objects and lists after the other."""
        level: list[tuple[_Container, str]] = [(record, "") for record in records]
        for _ in range(_DEEP):
            if not level:
                return
            level = self._level(level)
        for container, _path in level:
            self._count("deep")
            container.clear()

    def _level(self, level: list[tuple[_Container, str]]) -> list[tuple[_Container, str]]:
        """Everything in some objects and lists but what is in those inside of them: the next."""
        texts: list[str] = []
        starts: list[int] = []
        plans: list[Plan | None] = []
        odd: list[int] = []
        add = texts.append
        for number, (container, path) in enumerate(level):
            values: Iterable[Any] = container
            plan = None
            if isinstance(container, dict):
                plan = self._planned(container, path)
                values = container.values()
                if plan is not None and plan.kept:
                    values = [value for key, value in container.items() if key not in plan.kept]
            plans.append(plan)
            starts.append(len(texts))
            seen = False
            for value in values:
                if value.__class__ is str:
                    add(value)
                elif value.__class__ is int:
                    if value >= _LONG_INT:
                        seen = True
                elif value.__class__ not in _HARMLESS:
                    seen = True
            if seen:
                odd.append(number)
        self._put_back(level, plans, texts, starts)  # before what is no text may become one
        inner: list[tuple[_Container, str]] = []
        for number in odd:
            inner += self._others(*level[number], plans[number])
        return inner

    def _put_back(
        self,
        level: list[tuple[_Container, str]],
        plans: list[Plan | None],
        texts: list[str],
        starts: list[int],
    ) -> None:
        """Texts that were replaced go where they came from; they are numbered as they came."""
        by_container: dict[int, set[int]] = {}
        for at in self.texts(texts):
            by_container.setdefault(bisect_right(starts, at) - 1, set()).add(at)
        for number, changed in by_container.items():
            container: Any = level[number][0]
            plan = plans[number]
            at = starts[number]
            for key, value in _items(container):
                if value.__class__ is str and (plan is None or key not in plan.kept):
                    if at in changed:
                        container[key] = texts[at]
                    at += 1

    def _planned(self, container: Any, path: str) -> Plan | None:
        plan = self._policy.plan(container, path)
        if plan is None:
            return None
        for key, plural in plan.secret:
            value = container[key]
            if value is None or value is True or value is False or value == "":
                continue
            if plural and isinstance(value, (int, float)):
                continue
            text = text_of(value)
            if not find.REPLACED.fullmatch(text):
                container[key] = self._replaced("secret", text)
        if plan.renamed:
            self._rename(container, plan.kept)
        return plan

    def _rename(self, container: dict[Any, Any], kept: set[Any]) -> None:
        """Keys that are data. Two that become the same are numbered."""
        items = list(container.items())
        container.clear()
        for key, value in items:
            new = key
            if isinstance(key, str) and key not in kept:
                one = [key]
                self.texts(one)
                new = one[0]
            name, count = new, 1
            while name in container:
                count += 1
                name = f"{new}#{count}"
            container[name] = value

    def _others(self, container: Any, path: str, plan: Plan | None) -> list[tuple[_Container, str]]:
        """Values that are neither texts nor harmless; the objects and lists among them."""
        inner: list[tuple[_Container, str]] = []
        for key, found in list(_items(container)):
            kind = found.__class__
            if kind is str or (plan is not None and key in plan.kept):
                continue
            value = list(found) if kind is tuple else found
            if isinstance(value, (dict, list)):
                container[key] = value
                names = path if isinstance(container, list) else f"{path}{plain(str(key))}."
                inner.append((value, names))
            elif kind not in _HARMLESS:
                container[key] = self._other(value)
        return inner

    def _other(self, value: Any) -> Any:
        if isinstance(value, int):
            wanted = self._actions["card"] != "keep" and value >= _LONG_INT
            return self._replaced("card", str(value)) if wanted and is_card(str(value)) else value
        if isinstance(value, (IPv4Address, IPv6Address)):
            if self._actions["ip"] == "keep":
                return value
            new = self._ip(written(value))
            return new if self._actions["ip"] == "hash" else type(value)(new)
        if isinstance(value, str):
            one = [str(value)]
            return one[0] if self.texts(one) else value
        if isinstance(value, bytes):
            one = [value.decode("latin-1")]
            return one[0].encode("latin-1") if self.texts(one) else value
        return value


def _items(container: Any) -> Iterable[tuple[Any, Any]]:
    return container.items() if isinstance(container, dict) else enumerate(container)
