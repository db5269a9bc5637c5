"""What all connections of one client share, whatever loop they are on."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, final

from hastack.ratelimit._retry import RetryBudget

from ._endpoints import Endpoints

if TYPE_CHECKING:
    from ._options import Options


@final
class Shared:
    """Options, the health of endpoints, the token, the allowance for retries."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.endpoints = Endpoints(
            options.endpoints,
            home=random.randrange(len(options.endpoints)),
        )
        self.budget = RetryBudget(name="etcd")
        self.closed = False
        # What each call carries; None when a token must be asked for first.
        self.metadata: tuple[tuple[str, str], ...] | None = () if options.user is None else None
        self.trouble: Exception | None = None  # why the last try failed; None after an answer
        self.versions: dict[str, tuple[int, int, int]] = {}

    def forget_token(self, used: Any) -> None:
        """The token in ``used`` is not accepted any more; a newer one is kept."""
        if self.options.user is not None and self.metadata is used:
            self.metadata = None

    def missed(self, address: str) -> None:
        """An endpoint did not answer."""
        self.versions.pop(address, None)
        self.endpoints.failed(address, time.monotonic())
