"""What a lifecycle is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._machine import Spec, Step


class Component(Protocol):
    """What `Lifecycle.add` takes besides plain functions.

    Any of ``start``, ``ready``, ``drain`` and ``stop`` may be there as methods without
    arguments, ``def`` or ``async def``; ``depends_on`` may name other components.
    """

    @property
    def name(self) -> str:
        """Unique in its service."""
        ...


@attrs.frozen
class Added:
    """A component as the lifecycle keeps it."""

    spec: Spec
    calls: dict[Step, Callable[[], Any]]
