"""What makes single values of a type: cattrs with the rules of `_leaves`.

A module of its own, imported when the first value is read: cattrs is a third of what
``import hastack.config`` would cost, and many import that for the classes only.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final, Literal

from cattrs import Converter
from cattrs.errors import StructureHandlerNotFoundError as Untaught

from . import _leaves
from ._secret import Secret
from ._types import mark_of, origin_of

__all__ = ("CONVERTER", "Untaught")


def _converter() -> Converter:
    converter = Converter()
    for kind, hook in {
        bool: _leaves._bool, int: _leaves._int, float: _leaves._float, str: _leaves._str,
        Secret: _leaves._secret, Path: _leaves._path, dt.timedelta: _leaves._timedelta,
        dt.datetime: _leaves._moment, dt.date: _leaves._moment, dt.time: _leaves._moment,
    }.items():  # fmt: skip
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_func(
        lambda hint: origin_of(hint) is Literal, _leaves._literal
    )
    converter.register_structure_hook_func(
        lambda hint: mark_of(hint) is not None, _leaves._quantity
    )
    return converter


CONVERTER: Final = _converter()
