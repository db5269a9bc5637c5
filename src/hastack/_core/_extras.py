"""The one place where optional third-party packages are imported."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from ._errors import MissingDependency

if TYPE_CHECKING:
    from types import ModuleType

_FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
_OFF = {"0", "false", "no", "n", "off"}
# Packages of which the first part of a module's name says nothing, or the wrong thing.
_PACKAGES = {"google": "protobuf", "backports": "backports.zstd", "compression": "backports.zstd"}
_ours = False  # grpc was imported here, without its hooks


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
        raise MissingDependency(_PACKAGES.get(top, top), extra) from None


def require_grpc(*, extra: str) -> tuple[ModuleType, ModuleType]:
    """Import ``grpc`` and ``grpc.aio``, without gRPC's own hooks around forks.

    These hooks crash one forked child in three while ``grpc.aio`` has a connection that is busy
    (measured with 1.85), before any Python code runs in it. gRPC decides about them when it is
    first imported: a program that imports it earlier, or sets the variable, has decided itself.

    Raises:
        MissingDependency: grpc is not installed.
    """
    global _ours
    ours = "grpc" not in sys.modules and _FORK_SUPPORT not in os.environ
    if ours:
        _ours = True
        os.environ[_FORK_SUPPORT] = "0"
    try:
        return require("grpc", extra=extra), require("grpc.aio", extra=extra)
    finally:
        if ours:  # what this process starts decides for itself
            os.environ.pop(_FORK_SUPPORT, None)


def grpc_has_fork_hooks() -> bool:
    """Whether gRPC does something about forks itself, as far as can be told."""
    return not _ours and os.environ.get(_FORK_SUPPORT, "").lower() not in _OFF
