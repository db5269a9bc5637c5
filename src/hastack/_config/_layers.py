"""What each source says, and which source wins."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, final, runtime_checkable

import attrs

from hastack._core._errors import ConfigMistake

from ._quantities import EnvText
from ._settings import registered_sections, sections_field
from ._types import Hint, fields_of, shape_of

if TYPE_CHECKING:
    from ._toml_lines import Path

Tree: TypeAlias = dict[str, Any]


@final
@attrs.frozen
class Snapshot:
    """What one source says at one moment.

    Attributes:
        values: Nested tables with text keys, as `tomllib` would return them.
        origins: Where a value stands, for messages, by path: ``("health", "cache_ttl")``.
            A path that is missing here is named after its nearest parent, then the source.
        mistakes: What is wrong with the source itself.
    """

    values: Mapping[str, Any] = attrs.field(repr=False)  # it may hold secrets
    origins: Mapping[Path, str] = attrs.field(factory=dict, repr=False)
    mistakes: tuple[ConfigMistake, ...] = ()


@runtime_checkable
class Source(Protocol):
    """Somewhere configuration comes from; implement it for a key-value store or a service.

    Attributes:
        name: How messages call it.
    """

    @property
    def name(self) -> str:
        """How messages call it."""
        ...

    def read(self) -> Snapshot:
        """Everything it says now. An exception becomes a mistake; the old values stay."""
        ...

    def version(self) -> Hashable:
        """Something cheap that differs once `read` would say something else."""
        ...


@final
class Merged:
    """Several snapshots on top of each other; the later one wins, key by key.

    Attributes:
        values: The merged tree.
        mistakes: Mistakes of the sources themselves.
        broken: Whether a source could not be read, so that values may be missing.
    """

    def __init__(self) -> None:
        self.values: Tree = {}
        self.mistakes: list[ConfigMistake] = []
        self.broken = False
        self._marks: dict[Path, _Mark] = {}
        self._rank = 0

    def add(self, name: str, snapshot: Snapshot) -> None:
        """Put a snapshot on top."""
        self._rank += 1
        self.mistakes += snapshot.mistakes
        self.broken = self.broken or bool(snapshot.mistakes)
        _lay(self.values, snapshot.values, (), self, snapshot, name)

    def mark(self, path: Path, origin: str, *, table: bool = False) -> None:
        """Note that the value at ``path`` comes from the layer being added.

        A table is where it was first opened: that is where a missing key is looked for.
        """
        if not (table and path in self._marks):
            self._marks[path] = _Mark(self._rank, origin, table)

    def forget(self, path: Path) -> None:
        """Drop what is known of everything below ``path``: it was replaced whole."""
        for known in [p for p in self._marks if p[: len(path)] == path]:
            del self._marks[known]

    def origin(self, path: Path) -> str | None:
        """Where the value at ``path``, or the nearest table around it, comes from."""
        mark = self._nearest(path)
        return mark.origin if mark else None

    def _nearest(self, path: Path) -> _Mark | None:
        while path and path not in self._marks:
            path = path[:-1]
        return self._marks.get(path)

    def source_of(self, path: Path, *, secret: bool) -> str | None:
        """Where exactly this value was given, or ``None`` when it is a default.

        Args:
            path: Path of a single value.
            secret: Whether it may have come through its ``*_file`` key.
        """
        keys = [path, (*path[:-1], f"{path[-1]}_file")] if secret else [path]
        marks = [self._marks[key] for key in keys if key in self._marks]
        if marks:
            return max(marks, key=lambda mark: mark.rank).origin
        above = (self._marks.get(path[:depth]) for depth in range(len(path) - 1, 0, -1))
        nearest = next((mark for mark in above if mark is not None), None)
        # Inside a settings object that was given as a whole, not beside keys of a table.
        return nearest.origin if nearest is not None and not nearest.table else None

    def rank(self, path: Path) -> int:
        """Which layer the value at ``path`` comes from; a higher one wins."""
        mark = self._nearest(path)
        return mark.rank if mark else 0


@final
class _Mark(NamedTuple):
    rank: int
    origin: str
    table: bool


def _lay(
    below: Tree, above: Mapping[Any, Any], at: Path, merged: Merged, snapshot: Snapshot, name: str
) -> None:
    for key, value in above.items():
        path = (*at, key)
        if not isinstance(key, str):
            merged.mistakes.append(
                ConfigMistake(dotted(path), "keys are strings", accepted="a string", source=name)
            )
            continue
        if not isinstance(value, Mapping):
            merged.forget(path)
            below[key] = value
        elif not isinstance(below.get(key), dict):
            merged.forget(path)
            below[key] = {}
        if isinstance(value, Mapping):
            merged.mark(path, _origin_in(snapshot, path, name), table=True)
            _lay(below[key], value, path, merged, snapshot, name)
            continue
        merged.mark(path, _origin_in(snapshot, path, name))
        if isinstance(value, (list, tuple)):
            for inner in [p for p in snapshot.origins if p[: len(path)] == path]:
                merged.mark(inner, snapshot.origins[inner])


def _origin_in(snapshot: Snapshot, path: Path, name: str) -> str:
    while path:
        if path in snapshot.origins:
            return snapshot.origins[path]
        path = path[:-1]
    return name


def dotted(path: Path) -> str:
    """``("ratelimit", "a", "rates", 0)`` as ``ratelimit.a.rates[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            quoted = part if _is_bare(part) else f'"{part}"'
            text += f".{quoted}" if text else quoted
    return text


def _is_bare(key: object) -> bool:
    return isinstance(key, str) and key.replace("-", "_").replace("_", "a").isalnum()


# Variables with the usual prefix that steer the build or the command line, not a service.
NOT_SETTINGS = frozenset(
    {"HASTACK_PURE", "HASTACK_COMPILE", "HASTACK_APT", "HASTACK_DISCOVERY_URL"}
)


def read_environment(
    variables: Mapping[str, str], prefix: str, into: type, below: Mapping[str, Any]
) -> Snapshot:
    """The settings in the environment, with each name led to the key that it means.

    Args:
        variables: The environment.
        prefix: Which variables are settings; compared exactly.
        into: The settings class, whose field names are met in any case.
        below: The values of the sources below, whose keys are met in any case and with
            ``-`` written as ``_``.
    """
    values: Tree = {}
    given: dict[Path, str] = {}
    origins: dict[Path, str] = {}
    mistakes: list[ConfigMistake] = []
    names = sorted(n for n in variables if n.startswith(prefix) and n not in NOT_SETTINGS)
    for name in names:
        path = _meant(name.removeprefix(prefix).split("__"), into, below)
        clash = next((p for p in given if p[: len(path)] == path or path[: len(p)] == p), None)
        if clash is not None:
            mistakes.append(ConfigMistake(dotted(path), f"contradicts {given[clash]}", source=name))
            continue
        table = values
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = EnvText(variables[name])
        given[path] = name
        for depth in range(1, len(path) + 1):
            origins.setdefault(path[:depth], name)
    return Snapshot(values, origins, tuple(mistakes))


def _meant(parts: list[str], into: type, below: Mapping[str, Any]) -> tuple[str, ...]:
    path: list[str] = []
    hints: list[Hint] = [into]
    tree: object = below
    for part in parts:
        known = {key: hint for each in hints for key, hint in _below(each, tree)}
        key = next((k for k in known if _env_form(k) == _env_form(part)), part.lower())
        path.append(key)
        hints = [known[key]] if key in known else [h for each in hints for h in _values_of(each)]
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tuple(path)


def _env_form(key: str) -> str:
    return key.lower().replace("-", "_")


def _below(hint: Hint, tree: object) -> list[tuple[str, Hint]]:
    """The keys that may follow: fields of a class, or what a mapping holds already."""
    shape = shape_of(hint)
    if shape.form == "class":
        return list(known_keys(shape.hint).items())
    if shape.form == "choice":
        return [pair for member in shape.members for pair in known_keys(member).items()]
    if shape.form == "mapping" and isinstance(tree, Mapping):
        return [(key, shape.members[0]) for key in tree]
    return []


def _values_of(hint: Hint) -> list[Hint]:
    shape = shape_of(hint)
    return [shape.members[0]] if shape.form == "mapping" else []


def known_keys(cls: type) -> dict[str, Hint]:
    """Every key that a table of ``cls`` may hold, with the type behind it."""
    keys: dict[str, Hint] = {}
    for field in fields_of(cls):
        keys[field.key] = field.hint
        if field.file is not None:
            keys[field.file] = str
    if sections_field(cls) is not None:
        keys |= registered_sections()
    return keys
