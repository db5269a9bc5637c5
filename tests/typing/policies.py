"""Read by mypy and pyright, never run: limiters, the breaker and composed guards."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from hastack import ratelimit
from hastack.ratelimit import BreakerState, Decision

api = ratelimit.TokenBucket("100/s", burst=200, key=lambda user, **_: user)
db = ratelimit.CircuitBreaker(failure_rate=0.5, window=timedelta(seconds=10), min_calls=20)
guard = ratelimit.compose(ratelimit.Timeout(0.25), ratelimit.Retry(3), api, db)


@guard
async def get_user(user: str, *, fresh: bool = False) -> tuple[str, bool]:
    return user, fresh


class Service:
    @guard
    def method(self, user: str) -> list[str]:
        return [user]

    @staticmethod
    @guard
    def static(count: int) -> int:
        return count


async def calls(service: Service) -> None:
    assert_type(await get_user("ada"), tuple[str, bool])
    assert_type(service.method("ada"), list[str])
    assert_type(Service.static(1), int)
    service.method(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await get_user("ada", stale=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def directly() -> None:
    assert_type(api.try_acquire(key="ada", cost=2), Decision)
    assert_type(api.acquire(key="ada"), Decision)
    assert_type(await api.acquire_async(key="ada"), Decision)
    assert_type(db.state, BreakerState)
    assert_type(guard.call(len, "abc"), int)
    ratelimit.TokenBucket("100/s", 200)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ratelimit.CircuitBreaker(0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
