"""Plugins that follow their configuration."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, final

from hastack._core._errors import InvalidArgument
from hastack.config import Config, Watched

from ._keys import PublicKey
from ._limits import Limits
from ._settings import WASM, PluginConfig
from ._swap import Swap
from ._trust import Signer, Trust, Unsigned

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._offer import Offer

__all__ = ("live",)


def live(watched: Watched[Config], name: str, **options: Any) -> Swap:
    """The plugin that ``wasm.plugins.NAME`` describes, and goes on describing.

    A reload that changes its path, its signers or its limits is followed by the whole
    configuration or not at all: a module that is refused, a key that cannot be read or a plugin
    that is not healthy refuses the reload, with the reason as the mistake, and everything stays
    as it was. Calls that are under way end with the version they began with. ``fail`` is fixed
    at the start.

    Only the settings are watched: give each version a path of its own, or use `Swap.watch`.

    Args:
        watched: Made by `hastack.config.watch`.
        name: Key in ``wasm.plugins``; also the name in manifests and events.
        **options: For `Swap`, such as ``health``, and through it for `load`, such as
            ``imports``.

    Raises:
        InvalidArgument: ``watched`` is none, or there is no such entry.
        WasmError: The module is refused.
        OSError: A file cannot be read.

    Example:
        >>> import tempfile, pathlib
        >>> from hastack import config, wasm
        >>> path = pathlib.Path(tempfile.mkdtemp(), "one.wasm")
        >>> _ = path.write_bytes(wasm.wat('(module (func (export "f") (result i32) (i32.const 1)))'))
        >>> table = {"wasm": {"plugins": {"demo": {"path": str(path), "unsigned": True}}}}
        >>> watched = config.watch(env=None, override=table)
        >>> with wasm.live(watched, "demo") as plugin:
        ...     plugin.call("f")
        1
    """
    if not isinstance(watched, Watched):
        raise InvalidArgument("watched", watched, "a configuration made by hastack.config.watch")
    settings = WASM.of(watched.current).plugins.get(name)
    if settings is None:
        raise InvalidArgument("name", name, "an entry of wasm.plugins")
    trust, limits = _trust(settings), _limits(settings)
    swap = Swap(name, trust=trust, limits=limits, fail=settings.fail, **options)
    try:
        swap.offer(settings.path, _signature(settings))
    except BaseException:
        swap.close()
        raise
    follower = _Follower(swap, name)
    follower.end = watched.prepare(f"wasm.plugins.{name}", follower.prepare)
    return swap


@final
class _Follower:
    """Held by the configuration; holds the plugin weakly."""

    end: Callable[[], None]

    def __init__(self, swap: Swap, name: str) -> None:
        self._swap = weakref.ref(swap)
        self._name = name

    def prepare(self, old: Config, new: Config) -> Offer | None:
        swap = self._swap()
        if swap is None or swap.closed:
            self.end()
            return None
        before, after = (WASM.of(each).plugins.get(self._name) for each in (old, new))
        if before == after:
            return None
        if after is None:
            raise InvalidArgument("wasm.plugins", self._name, "the entry of a plugin in use")
        return swap.prepare(
            after.path, _signature(after), trust=_trust(after), limits=_limits(after)
        )


def _trust(settings: PluginConfig) -> Trust | Unsigned:
    if settings.unsigned:
        return Unsigned()
    return Trust(
        Signer(PublicKey.from_pem(path.read_bytes()), owner)
        for owner, path in settings.signers.items()
    )


def _limits(settings: PluginConfig) -> Limits:
    names = ("deadline", "memory", "fuel", "host_calls")
    given = {name: getattr(settings, name) for name in names}
    return Limits(**{name: value for name, value in given.items() if value is not None})


def _signature(settings: PluginConfig) -> bytes | None:
    return None if settings.signature is None else settings.signature.read_bytes()
