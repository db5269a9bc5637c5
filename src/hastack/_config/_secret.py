"""A text that must not be shown."""

from __future__ import annotations

from typing import NoReturn, final

from hastack._core._errors import InvalidArgument

MASK = "***"


@final
class Secret:
    """A password, token or key inside a configuration.

    ``repr``, ``str`` and formatting show ``***``; comparing takes the same time wherever the
    texts differ. A secret is not pickled, and an exception that carries one cannot take it
    into another process; a copy is the same object.

    Args:
        text: The secret.

    Raises:
        InvalidArgument: ``text`` is no string; the message does not show it.

    Example:
        >>> from hastack import config
        >>> token = config.Secret("s3cr3t")
        >>> token, f"{token}", token.reveal()
        (Secret('***'), '***', 's3cr3t')
    """

    __slots__ = ("_text",)
    _text: str

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise InvalidArgument("text", type(text), "a string")
        object.__setattr__(self, "_text", str(text))

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        encoding = ("utf-8", "surrogatepass")
        from hmac import compare_digest  # brings OpenSSL

        return compare_digest(self._text.encode(*encoding), other._text.encode(*encoding))

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret does not change")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Secret does not change")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled; load the configuration in that process")
