"""A client that stays useful while the service behind it does not.

Run: ``python examples/04-resilient-client/example.py``
"""

from __future__ import annotations

import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import HTTPError, URLError

from hastack import context, events, ratelimit
from hastack.errors import CircuitOpen

sys.path.insert(0, str(Path(__file__).parent))
from shop import Shop, shop


def last_known(error: Exception) -> str:
    """A real client would look into a cache here."""
    return "3.10 (last known)"


def is_worth_retrying(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code in {429, 502, 503, 504}
    return isinstance(error, URLError | ConnectionError | TimeoutError)


class PriceClient:
    """One client for one service; the guards are shared by all its calls."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.budget = ratelimit.RetryBudget(0.2, min_per_second=0.5)
        self.breaker = ratelimit.CircuitBreaker(
            failure_rate=0.5, window=10.0, min_calls=20, open_for=5.0, name="shop"
        )
        self.price = ratelimit.compose(
            ratelimit.Fallback(call=last_known),  # whatever happens, there is a price
            ratelimit.Timeout(2.0),  # all tries together
            ratelimit.Retry(
                attempts=4,
                base=0.02,
                retry_on=is_worth_retrying,
                retry_after=ratelimit.http_retry_after,  # obey 503 and 429 answers
                budget=self.budget,
            ),
            self.breaker,
            ratelimit.Hedge(0.15, on=is_worth_retrying),  # a second request when one is slow
            ratelimit.Timeout(0.8),  # each try
        )(self._get)

    def _get(self, item: str) -> str:
        # urllib has one timeout for each socket operation: give it what is left of the call.
        left = context.current().remaining()
        with urllib.request.urlopen(f"{self.url}/{item}", timeout=left) as answer:
            return answer.read().decode()


def tell(text: str) -> None:
    print(f"\n{text}")


def ask(client: PriceClient, server: Shop) -> None:
    before, start = server.requests, time.perf_counter()
    answer = client.price("tea")
    took = (time.perf_counter() - start) * 1000
    print(f"  tea: {answer:<18} {took:5.0f} ms, {server.requests - before} requests")


def main() -> None:
    retries: list[ratelimit.RetryScheduled] = []
    stop = events.subscribe(retries.append, ratelimit.RetryScheduled)
    with shop() as server:
        client = PriceClient(server.url)
        tell("All is well:")
        ask(client, server)

        tell("The service is busy once (503); the caller notices nothing:")
        server.mood = ["busy"]
        ask(client, server)

        tell("One slow answer; the hedge is faster:")
        server.mood = ["slow"]
        ask(client, server)

        tell("An outage, 60 calls: the budget bounds the retries, then the breaker opens:")
        server.down = True
        server.requests = 0
        retries.clear()
        answers = [client.price("tea") for _ in range(60)]
        print(f"  {len(answers)} answers, all of them {answers[0]}")
        print(f"  {len(retries)} retries, {server.requests} requests reached the service")
        print(f"  the breaker is {client.breaker.state.value}")
        try:
            client.breaker.call(client._get, "tea")
        except CircuitOpen as refused:
            print(f"  {refused}")
    stop()


if __name__ == "__main__":
    main()
