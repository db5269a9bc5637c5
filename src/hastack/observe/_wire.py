"""One way to send a signal: who encodes, who sends, and whose rules apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs

from hastack._core._errors import InvalidArgument

from ._compress import compress, decompress
from ._split import halves

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._encoding import Encoder
    from ._retry_rules import RetryRules
    from ._split import Path
    from ._transport import Transport


@final
@attrs.define(eq=False, kw_only=True)
class Wire:
    """How a signal gets to a backend.

    Args:
        encoder: Makes request bodies.
        transport: Sends them.
        rules: Whose retry rules apply.
        compression: One of the encoder's ``format.compressions``; the first by default.
        split: Where the leaves of a body are, and how many units one of them is; ``None`` when a
            body that is too long cannot be cut.

    Raises:
        InvalidArgument: The format does not know the compression.
    """

    encoder: Encoder
    transport: Transport
    rules: RetryRules
    compression: str = ""
    split: tuple[Path, Callable[[bytes], int]] | None = None

    def __attrs_post_init__(self) -> None:
        known = self.encoder.format.compressions
        if not self.compression:
            self.compression = known[0]
        elif self.compression not in known and self.compression != "identity":
            raise InvalidArgument("compression", self.compression, f"one of {', '.join(known)}")

    def about(self) -> dict[str, object]:
        """What somebody else needs to send its bodies."""
        shape = self.encoder.format
        return {
            "format": shape.name,
            "protocol": self.rules.value,
            "content_type": shape.content_type,
            "encoding": self.compression,
            "headers": dict(shape.headers),
        }

    def pieces(self, data: bytes, units: int) -> list[tuple[int, bytes]]:
        """Two bodies in place of one that was too long; none when it cannot be cut."""
        if self.split is None:
            return []
        plain = decompress(self.compression, data)
        if plain is None:
            return []
        path, weight = self.split
        return [(n, compress(self.compression, p)) for n, p in halves(plain, path, units, weight)]
