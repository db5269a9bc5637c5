"""From a merged tree to one settings object, or to the list of everything that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, final

import attrs

from hastack._core._errors import ConfigMistake

from ._layers import Merged, dotted, known_keys
from ._leaves import closest, did_you_mean, list_from_text, listed, structure_leaf
from ._quantities import EnvText, UnfitError, kind_of
from ._secret import MASK, Secret
from ._settings import registered_sections, sections_field
from ._types import Field, Hint, Shape, fields_of, kinds_of, shape_of

if TYPE_CHECKING:
    from ._toml_lines import Path

C = TypeVar("C")

_FAILED: Any = object()
"""Stands for a value that has its mistake noted already."""


@final
class Structurer:
    """One attempt to build one tree.

    Args:
        merged: The tree and where its values come from.
        read_secret: Reads the file behind a ``*_file`` key; an `OSError` becomes a mistake.

    Attributes:
        mistakes: What was wrong, in the order in which it was met.
    """

    def __init__(self, merged: Merged, read_secret: Callable[[str], str]) -> None:
        self.merged = merged
        self.read_secret = read_secret
        self.mistakes: list[ConfigMistake] = []

    def build(self, cls: type[C]) -> C | None:
        """The settings object, or ``None`` when there are mistakes."""
        result = self._class(self.merged.values, cls, ())
        if self.mistakes or result is _FAILED:
            return None
        built: C = result
        return built

    def _note(self, path: Path, problem: str, accepted: str | None = None) -> Any:
        source = self.merged.origin(path)
        where = dotted(path) or "(root)"
        self.mistakes.append(ConfigMistake(where, problem, accepted=accepted, source=source))
        return _FAILED

    def _value(self, value: object, hint: Hint, path: Path) -> Any:
        shape = shape_of(hint)
        if shape.optional and (value is None or _says_none(value, shape)):
            return None
        if shape.form == "class":
            return self._class(value, shape.hint, path)
        if shape.form == "choice":
            return self._choice(value, shape, path)
        if shape.form == "mapping":
            return self._mapping(value, shape, path)
        try:
            if shape.form == "list":
                return self._list(value, shape, path)
            if shape.form == "union":
                return _first_fit(value, shape)
            return structure_leaf(value, shape.hint)
        except UnfitError as unfit:
            return self._note(path, unfit.problem, unfit.accepted)

    def _class(self, value: object, cls: type, path: Path) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            return self._note(path, f"expected a table, got {kind_of(value)}", _keys_of(cls))
        before = len(self.mistakes)
        meant = self._refuse_unknown(value, known_keys(cls), path)
        given = {field.key: self._field(value, field, path, meant) for field in fields_of(cls)}
        given = {key: result for key, result in given.items() if result is not attrs.NOTHING}
        name = sections_field(cls)
        if name is not None:
            given[name] = self._sections(value, cls, path)
        good = {key: result for key, result in given.items() if result is not _FAILED}
        if len(self.mistakes) == before:
            try:
                return cls(**good)
            except Exception as error:
                self._diagnose(cls, given, path)
                if len(self.mistakes) == before:
                    self._note(path, *_words(error))
        else:
            self._diagnose(cls, given, path)
        return _FAILED

    def _refuse_unknown(
        self, value: Mapping[str, Any], known: Mapping[str, Hint], path: Path
    ) -> set[str | None]:
        meant = set()
        for key in value:
            if key not in known:
                close = closest(key, known)
                meant.add(close)
                self._note((*path, key), f"unknown key{did_you_mean(close)}", ", ".join(known))
        return meant

    def _field(
        self, table: Mapping[str, Any], field: Field, path: Path, meant: set[str | None]
    ) -> Any:
        here = (*path, field.key)
        if field.file is not None and field.file in table:
            return self._secret_from_file(table, field, field.file, path)
        if field.key in table:
            return self._value(table[field.key], field.hint, here)
        # A source that could not be read may hold it, or a misspelt key mean it: one mistake is
        # not reported as two.
        if field.required and not self.merged.broken and field.key not in meant:
            return self._note(here, "is required and missing", _accepted_by(field.hint))
        return _FAILED if field.required else attrs.NOTHING

    def _secret_from_file(
        self, table: Mapping[str, Any], field: Field, file_key: str, path: Path
    ) -> Any:
        here, there = (*path, field.key), (*path, file_key)
        if field.key in table:
            mine, other = self.merged.rank(here), self.merged.rank(there)
            if mine > other:
                return self._value(table[field.key], field.hint, here)
            if mine == other:
                return self._note(here, f"is given twice: also as {dotted(there)}", "one of them")
        file = self._value(table[file_key], str, there)
        if file is _FAILED:
            return _FAILED
        try:
            text = self.read_secret(file)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "is not UTF-8 text"
            return self._note(there, f"{file!r} cannot be read: {reason}", "a readable file")
        return Secret(text.removesuffix("\n").removesuffix("\r"))

    def _sections(self, value: Mapping[str, Any], cls: type, path: Path) -> Any:
        built = {
            name: self._value(value[name], settings, (*path, name)) if name in value else settings()
            for name, settings in registered_sections().items()
        }
        container = next(a for a in attrs.fields(cls) if a.name == sections_field(cls)).default
        kind = type(container.factory())
        return _FAILED if _FAILED in built.values() else kind(built)

    def _diagnose(self, cls: type, given: dict[str, Any], path: Path) -> None:
        """Ask every field's validator, because building stops at the first that says no."""
        probe: Any = object.__new__(cls)
        fields = fields_of(cls)
        good = {key: result for key, result in given.items() if result is not _FAILED}
        for field in fields:
            value = good.get(field.key, attrs.NOTHING)
            if field.key not in given:
                value = _default(field)
            if value is not attrs.NOTHING:
                object.__setattr__(probe, field.name, value)
        for field in fields:
            validator = field.attribute.validator
            value = getattr(probe, field.name, attrs.NOTHING)
            if validator is None or value is attrs.NOTHING:
                continue
            try:
                validator(probe, field.attribute, _converted(field, value))
            except AttributeError:
                continue  # it looks at another field, which has its own mistake
            except Exception as error:
                problem, accepted = _words(error)
                if isinstance(value, Secret):
                    hidden = value.reveal()
                    problem = problem.replace(hidden, MASK) if hidden else problem
                self._note((*path, field.key), problem, accepted)

    def _choice(self, value: object, shape: Shape, path: Path) -> Any:
        if isinstance(value, shape.members):
            return value
        kinds = {kind: member for member in shape.members for kind in kinds_of(member)}
        if not isinstance(value, Mapping):
            return self._note(path, f"expected a table, got {kind_of(value)}", "a table")
        kind = value.get("kind")
        if kind is None:
            return self._class(value, shape.members[0], path)
        if not isinstance(kind, str) or kind not in kinds:
            hint = did_you_mean(closest(kind, kinds)) if isinstance(kind, str) else ""
            what = repr(str(kind)) if isinstance(kind, str) else kind_of(kind)
            return self._note((*path, "kind"), f"{what} is not one of them{hint}", listed(kinds))
        return self._class(value, kinds[kind], path)

    def _mapping(self, value: object, shape: Shape, path: Path) -> Any:
        if not isinstance(value, Mapping):
            return self._note(path, f"expected a table, got {kind_of(value)}", "a table")
        of_values, of_keys = shape.members
        built = {
            self._key(key, of_keys, (*path, key)): self._value(each, of_values, (*path, key))
            for key, each in value.items()
        }
        if any(each is _FAILED for pair in built.items() for each in pair):
            return _FAILED
        return shape.container(built)

    def _key(self, key: str, hint: Hint, path: Path) -> Any:
        """A key as the type that the mapping asks for; files know only texts."""
        if hint is str:
            return key
        try:
            return structure_leaf(EnvText(key), hint)
        except UnfitError as unfit:
            return self._note(path, f"as a key, {unfit.problem}", unfit.accepted)

    def _list(self, value: object, shape: Shape, path: Path) -> Any:
        if isinstance(value, EnvText):
            value = list_from_text(value)
        if not isinstance(value, (list, tuple, set, frozenset)):
            return self._note(path, f"expected a list, got {kind_of(value)}", "a list")
        built = [self._value(each, shape.members[0], (*path, n)) for n, each in enumerate(value)]
        return _FAILED if any(each is _FAILED for each in built) else shape.container(built)


def _default(field: Field) -> Any:
    default: Any = field.attribute.default
    factory = getattr(default, "factory", None)
    if factory is None:
        return default
    return attrs.NOTHING if default.takes_self else factory()


def _converted(field: Field, value: object) -> object:
    """What the validator would see; converters that want the instance are left out."""
    converter: Any = field.attribute.converter
    return converter(value) if isinstance(converter, (type, FunctionType)) else value


def _says_none(value: object, shape: Shape) -> bool:
    """Files and variables have no null: ``none`` stands for it where no text is meant."""
    if not isinstance(value, str) or value.lower() != "none":
        return False
    return shape.form == "leaf" and shape.hint not in {str, Secret, Any, object}


def _first_fit(value: object, shape: Shape) -> Any:
    refusals = []
    for member in shape.members:
        try:
            return structure_leaf(value, member)
        except UnfitError as unfit:
            refusals.append(unfit)
    accepted = " or ".join(dict.fromkeys(r.accepted for r in refusals if r.accepted))
    raise UnfitError(refusals[0].problem, accepted or None)


def _words(error: Exception) -> tuple[str, str | None]:
    """Problem and accepted values out of whatever a validator raised."""
    if isinstance(error, UnfitError):
        return error.problem, error.accepted
    return str(error.args[0]) if error.args else type(error).__name__, None


def _keys_of(cls: type) -> str:
    return f"a table with {', '.join(known_keys(cls))}"


def _accepted_by(hint: Hint) -> str | None:
    """The accepted form of a leaf, learnt by offering it what fits nothing."""
    shape = shape_of(hint)
    if shape.form != "leaf":
        return None
    try:
        structure_leaf(_FAILED, shape.hint)
    except UnfitError as unfit:
        return unfit.accepted
    return None
