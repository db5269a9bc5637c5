"""Loading: read the layers, merge them, build the tree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Generic, TypeAlias, TypeVar, final

import attrs

from hastack._core._errors import ConfigError, ConfigMistake, InvalidArgument

from ._files import TomlFile, read_secret
from ._layers import Merged, Snapshot, Source, read_environment
from ._structure import Structurer

C = TypeVar("C")

SourceLike: TypeAlias = str | os.PathLike[str] | Source
"""A TOML file by its path, or anything else that is a `Source`."""


@final
@attrs.frozen
class Outcome(Generic[C]):
    """What one attempt to load came to.

    Attributes:
        config: The tree, or ``None`` when there are mistakes.
        mistakes: Everything that is wrong.
        merged: Where each value comes from.
    """

    config: C | None
    mistakes: tuple[ConfigMistake, ...]
    merged: Merged

    def unwrap(self) -> C:
        """The tree.

        Raises:
            ConfigError: All mistakes at once.
        """
        if self.config is None:
            count = len(self.mistakes)
            raise ConfigError(
                f"{count} mistake{'s' if count != 1 else ''} in the configuration", self.mistakes
            )
        return self.config


@final
@attrs.frozen
class Recipe(Generic[C]):
    """Everything `load` was told, so that it can be done again."""

    sources: tuple[Source, ...]
    into: type[C]
    env: Mapping[str, str] | None = attrs.field(repr=False)  # both may hold secrets
    env_prefix: str
    override: Mapping[str, Any] | None = attrs.field(repr=False)

    def attempt(self) -> Outcome[C]:
        """Read every source now and build the tree."""
        merged = Merged()
        for source in self.sources:
            merged.add(source.name, _read(source))
        if self.env is not None:
            values = read_environment(self.env, self.env_prefix, self.into, merged.values)
            merged.add("environment", values)
        if self.override is not None:
            merged.add("override", Snapshot(self.override))
        structurer = Structurer(merged, read_secret)
        config = structurer.build(self.into)
        mistakes = (*merged.mistakes, *structurer.mistakes)
        return Outcome(None if mistakes else config, mistakes, merged)


def _read(source: Source) -> Snapshot:
    try:
        return source.read()
    except Exception as error:
        problem = f"cannot be read: {type(error).__name__}: {error}"
        return Snapshot({}, mistakes=(ConfigMistake("(source)", problem, source=source.name),))


def recipe(
    sources: tuple[SourceLike, ...],
    into: type[C],
    env: Mapping[str, str] | None,
    env_prefix: str,
    override: Mapping[str, Any] | None,
) -> Recipe[C]:
    """Check what `load` was told.

    Raises:
        InvalidArgument: One of the arguments is of the wrong kind.
    """
    given: Any = into
    if not (isinstance(given, type) and attrs.has(given)):
        raise InvalidArgument("into", into, "an attrs class")
    for name, mapping in (("env", env), ("override", override)):
        if mapping is not None and not isinstance(mapping, Mapping):
            raise InvalidArgument(name, type(mapping), "a mapping, or None")
    prefix: Any = env_prefix
    if not (isinstance(prefix, str) and env_prefix.endswith("_") and len(env_prefix) > 1):
        raise InvalidArgument("env_prefix", env_prefix, "a name that ends with '_'")
    opened: list[Source] = []
    for source in sources:
        if isinstance(source, (str, os.PathLike)):
            opened.append(TomlFile(source))
        elif isinstance(source, Source):
            opened.append(source)
        else:
            raise InvalidArgument("sources", source, "paths of TOML files, or Source objects")
    return Recipe(tuple(opened), into, env, env_prefix, override)
