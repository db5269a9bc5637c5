"""What the doctor was asked to look at, and the settings that it reads for that once."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import attrs

from hastack import config as configuration
from hastack.errors import ConfigError, ConfigMistake

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ("Looking",)


@final
@attrs.define(slots=False)
class Looking:
    """One visit.

    Args:
        names: Sections, or ``section.name`` for one line; empty for everything.
        files: Settings files, later ones on top.
        into: The application's settings class.
        env_prefix: Which variables are settings.
        timeout: Seconds for each question to a backend.
    """

    names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    into: type[Any] = configuration.Config
    env_prefix: str = "HASTACK_"
    timeout: float = 5.0

    def wants(self, section: str, name: str | None = None) -> bool:
        """Whether a section was asked for, or a line of it."""
        if not self.names or section in self.names:
            return True
        if name is not None:
            return f"{section}.{name}" in self.names
        return any(each.startswith(f"{section}.") for each in self.names)

    @cached_property
    def mistakes(self) -> tuple[ConfigMistake, ...]:
        """Every mistake in files and environment."""
        return self._loaded[1]

    @cached_property
    def settings(self) -> configuration.Config | None:
        """What hastack itself is told; ``None`` after mistakes, or where ``into`` holds nothing."""
        return next(_configs([self._loaded[0]]), None)

    @cached_property
    def _loaded(self) -> tuple[Any, tuple[ConfigMistake, ...]]:
        from hastack.cli._config import know_all_sections, mistakes_of

        know_all_sections()
        try:
            return configuration.load(
                *self.files, into=self.into, env=os.environ, env_prefix=self.env_prefix
            ), ()
        except ConfigError as error:
            return None, mistakes_of(error, self.files)


def _configs(values: Iterable[Any]) -> Iterator[configuration.Config]:
    """Hastack's settings wherever they stand in those of an application."""
    for value in values:
        if isinstance(value, configuration.Config):
            yield value
        elif attrs.has(type(value)):
            yield from _configs(getattr(value, each.name) for each in attrs.fields(type(value)))
