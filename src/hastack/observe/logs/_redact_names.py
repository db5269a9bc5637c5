"""Which fields are secret by their name, and which are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ._redact_scan import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("Names", "plain")


def plain(name: str) -> str:
    """A name as it is compared: small letters, without ``_``, ``-`` and spaces.

    Example:
        >>> plain("X-Api_Key")
        'xapikey'
    """
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


@final
class Names:
    """What the names of fields say about their values.

    Args:
        secret: Names, or paths with dots, of secrets beside the usual ones.
        kept: The same for fields that are left as they are.
        usual: Whether names that end with a usual word for a secret say that it is one.
    """

    __slots__ = ("_kept", "_secret", "_usual", "by_path")

    def __init__(self, secret: Iterable[str], kept: Iterable[str], *, usual: bool = True) -> None:
        self._secret = frozenset(map(plain, secret))
        self._kept = frozenset(map(plain, kept))
        self._usual = usual
        self.by_path = any("." in name for name in self._secret | self._kept)

    def meaning(self, name: str, path: str) -> str:
        """What a name says: ``""``, ``"kept"``, ``"secret"``, or ``"plural"``.

        ``total_tokens`` is a number of tokens and says nothing; a text of that name would be secret.

        Args:
            name: Of the field.
            path: The names of what it is in, with dots and one at the end, in plain form.
        """
        bare = plain(name)
        if bare in self._kept or path + bare in self._kept:
            return "kept"
        if bare in self._secret or path + bare in self._secret:
            return "secret"
        if self._usual:
            if bare.endswith(NAMES):
                return "secret"
            if bare.endswith("s") and bare[:-1].endswith(NAMES):
                return "plural"
        return ""
