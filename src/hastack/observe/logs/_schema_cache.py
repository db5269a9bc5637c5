"""Schemas that were inferred before, by the fingerprint of their format."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, final

from hastack._core import _validate
from hastack._core._fork import renew_in_child

if TYPE_CHECKING:
    from .schema import Schema


@final
class SchemaCache:
    """Schemas by the fingerprint of their format; the one unused for longest makes room.

    Args:
        capacity: How many are kept.

    Raises:
        InvalidArgument: ``capacity`` is below 1.

    Example:
        >>> from hastack.observe import logs
        >>> cache = logs.SchemaCache(capacity=2)
        >>> first = logs.infer({"app": [{"port": 80}]}, cache=cache)
        >>> logs.infer({"app": [{"port": "http"}]}, cache=cache)["app"] is first["app"]
        True
    """

    def __init__(self, capacity: int = 256) -> None:
        self._capacity = _validate.integer("capacity", capacity)
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Schema] = OrderedDict()
        renew_in_child(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def get(self, key: str) -> Schema | None:
        """The schema for a fingerprint."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, schema: Schema) -> None:
        """Keep a schema, in place of an earlier one."""
        with self._lock:
            self._kept[schema.fingerprint] = schema
            self._kept.move_to_end(schema.fingerprint)
            if len(self._kept) > self._capacity:
                self._kept.popitem(last=False)

    def __len__(self) -> int:
        return len(self._kept)
