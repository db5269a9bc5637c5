"""The one place where optional third-party packages are imported."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ._errors import MissingDependency

if TYPE_CHECKING:
    from types import ModuleType


def require(module: str, *, extra: str) -> ModuleType:
    """Import ``module`` or say exactly how to get it.

    Args:
        module: Dotted module name, for example ``"grpc"``.
        extra: The hastack extra that brings it, for example ``"grpc"``.

    Raises:
        MissingDependency: The package is not installed. An import error inside an installed
            package passes through unchanged.
    """
    top = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != top:
            raise
        raise MissingDependency(top, extra) from None
