"""What an ABI gives to a module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ("Adapted",)


@attrs.frozen(kw_only=True)
class Adapted:
    """Grants and signatures, and what is kept for each instance.

    Attributes:
        name: Name of the ABI.
        grants: Host functions by module and name.
        functions: Signatures by export.
        command: Whether an instance is for one run only.
        state: Makes what host functions keep for one instance.
    """

    name: str
    grants: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    functions: dict[str, str] = attrs.field(factory=dict)
    command: bool = False
    state: Callable[[], Any] | None = None

    def with_users(
        self, grants: Mapping[str, Mapping[str, Any]], functions: Mapping[str, str]
    ) -> Adapted:
        """The same with what the user grants and declares beside it, or instead."""
        both = {module: dict(names) for module, names in self.grants.items()}
        for module, names in grants.items():
            both.setdefault(module, {}).update(names)
        return attrs.evolve(self, grants=both, functions={**self.functions, **functions})
