"""Settings of plugins: the ``wasm`` table of the configuration."""
# ruff: noqa: RUF009  # setting() is an attrs.field(), made anew for each class

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # annotations are resolved at runtime
from pathlib import Path  # noqa: TC003  # as above
from types import MappingProxyType
from typing import Literal, final

import attrs

from hastack._config._fields import Bytes, Seconds, setting
from hastack._config._settings import section


@final
@attrs.frozen(kw_only=True)
class PluginConfig:
    """One plugin: its file, who must have signed it, and what it may use."""

    path: Path = setting(help="The module.")
    signature: Path | None = setting(None, help="A detached signature, unless it is inside.")
    signers: Mapping[str, Path] = setting(
        factory=lambda: MappingProxyType({}),
        help="Files with public keys (PEM) by the names of their owners; any one of them counts.",
    )
    unsigned: bool = setting(False, help="Load what nobody signed; excludes signers.")
    deadline: Seconds | None = setting(None, above=0.0, help="Wall-clock time of one call.")
    memory: Bytes | None = setting(None, minimum=65536, help="All linear memories together.")
    fuel: int | None = setting(None, minimum=1, help="Instructions of one call.")
    host_calls: int | None = setting(None, minimum=0, help="Calls to the host by one call.")
    fail: Literal["closed", "open", "reload"] = setting(
        "closed", help="What a policy says when the plugin fails; fixed at the start."
    )

    def __attrs_post_init__(self) -> None:
        if bool(self.signers) == self.unsigned:
            raise ValueError("expected either signers or unsigned = true")


@final
@attrs.frozen(kw_only=True)
class WasmConfig:
    """The ``wasm`` table of the configuration."""

    plugins: Mapping[str, PluginConfig] = setting(
        factory=lambda: MappingProxyType({}), help="Plugins by name."
    )


WASM = section("wasm", WasmConfig)
