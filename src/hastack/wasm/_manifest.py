"""What a module says of itself, under its signature: name, version, and what it may import."""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

from hastack._core import _validate
from hastack._core._errors import InvalidArgument, NotTrusted

from ._reader import imported, sections
from ._signature import SECTION as SIGNATURE
from ._signature import custom

__all__ = ("Manifest", "manifest_of", "with_manifest")

SECTION: Final = "hastack.manifest"
_KEYS: Final = {"name", "version", "svn", "imports", "expires"}


@attrs.frozen(kw_only=True)
class Manifest:
    """A custom section ``hastack.manifest`` of a module; the signature covers it.

    Attributes:
        name: Name of the plugin: a signed module cannot be passed off as another one.
        version: For people.
        svn: Security version number. Once a version with some number was accepted, lower ones are
            refused.
        imports: What it may import, as ``module.name``; everything that it does import.
        expires: Seconds since 1970 after which it is refused; ``None`` for never.

    Raises:
        InvalidArgument: A value is outside of its range.
    """

    name: str
    version: str = ""
    svn: int = 0
    imports: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    expires: float | None = None

    def __attrs_post_init__(self) -> None:
        _validate.text("name", self.name)
        _validate.integer("svn", self.svn, minimum=0)
        _validate.optional_seconds("expires", self.expires)
        if not isinstance(self.version, str):
            raise InvalidArgument("version", self.version, "a string")
        if not all(isinstance(name, str) for name in self.imports):
            raise InvalidArgument("imports", self.imports, "strings")

    def to_bytes(self) -> bytes:
        """Its one form in a module."""
        fields = {key: value for key, value in attrs.asdict(self).items() if value is not None}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def manifest_of(module: bytes) -> Manifest | None:
    """The manifest of a module, or ``None``.

    Raises:
        InvalidModule: It is no module.
        NotTrusted: It has several, or one that cannot be read.
    """
    found = [one for one in sections(module) if one.id == 0 and one.name == SECTION]
    if not found:
        return None
    if len(found) > 1:
        raise NotTrusted("more than one manifest")
    try:
        fields: Any = json.loads(module[found[0].payload : found[0].end])
        if not isinstance(fields, dict) or fields.keys() - _KEYS:
            raise ValueError("unknown fields")
        return Manifest(**fields)
    except (ValueError, TypeError, RecursionError) as error:
        raise NotTrusted(f"manifest: {error}") from None


def with_manifest(module: bytes, manifest: Manifest | None = None, **fields: Any) -> bytes:
    """A module with a manifest, in place of the one that it has; it is to be signed anew.

    Args:
        module: Its bytes; a signature that it has is taken off.
        manifest: What it says of itself.
        **fields: Instead of ``manifest``, the fields of one; ``imports`` is what it imports.

    Raises:
        InvalidModule: It is no module.
        InvalidArgument: A field is outside of its range.
    """
    if manifest is None:
        manifest = Manifest(**{"imports": imported(module), **fields})
    out = module[:8]
    for one in sections(module):
        if one.id != 0 or one.name not in {SECTION, SIGNATURE}:
            out += module[one.start : one.end]
    return out + custom(SECTION, manifest.to_bytes())
