"""What an ABI gives to a module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ("Adapted",)


class Both:
    """The states of two ABIs in one instance; they share no names."""

    def __init__(self, *states: Any) -> None:
        object.__setattr__(self, "_states", [one for one in states if one is not None])

    def __getattr__(self, name: str) -> Any:
        for state in self._states:
            if hasattr(state, name):
                return getattr(state, name)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: object) -> None:
        for state in self._states:
            if hasattr(state, name):
                setattr(state, name, value)


@attrs.frozen(kw_only=True)
class Adapted:
    """Grants and signatures, and what is kept for each instance.

    Attributes:
        name: Name of the ABI.
        grants: Host functions by module and name.
        functions: Signatures by export.
        command: Whether an instance is for one run only.
        state: Makes what host functions keep for one instance.
        kernel: Text of a module that runs beside the guest in its store, with a memory.
        kernel_module: Under which module name the guest imports the kernel's functions.
        kernel_functions: Their names.
        bound: Makes the way into an export, where that is not the usual one.
    """

    name: str
    grants: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    functions: dict[str, str] = attrs.field(factory=dict)
    command: bool = False
    state: Callable[[], Any] | None = None
    kernel: str = ""
    kernel_module: str = ""
    kernel_functions: tuple[str, ...] = ()
    bound: Callable[[Any, Any, Any], Any] | None = None

    def beside(self, other: Adapted) -> Adapted:
        """This one, with the grants of another for what it does not know itself."""
        states = self.state, other.state

        def state() -> Any:
            return Both(*(make() if make is not None else None for make in states))

        return attrs.evolve(self, grants={**other.grants, **self.grants}, state=state)

    def with_users(
        self, grants: Mapping[str, Mapping[str, Any]], functions: Mapping[str, str]
    ) -> Adapted:
        """The same with what the user grants and declares beside it, or instead."""
        both = {module: dict(names) for module, names in self.grants.items()}
        for module, names in grants.items():
            both.setdefault(module, {}).update(names)
        return attrs.evolve(self, grants=both, functions={**self.functions, **functions})
