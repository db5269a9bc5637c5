"""Read by mypy and pyright, never run: every policy keeps the exact type of what it guards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import assert_type

from hastack.ratelimit import (
    Fallback,
    Hedge,
    Pipeline,
    Retry,
    RetryBudget,
    Timeout,
    compose,
    http_retry_after,
    parse_retry_after,
)

retry = Retry(3, base=0.1, retry_on=(OSError, KeyError), budget=RetryBudget(0.2))
pipeline = compose(Fallback(value=None), retry, compose(Hedge(0.1), Timeout(1.0)))
assert_type(pipeline, Pipeline)


def fetch(url: str, *, tries: int = 1) -> bytes:
    return url.encode() * tries


async def fetch_async(url: str, *, tries: int = 1) -> bytes:
    return url.encode() * tries


@retry
def decorated(url: str, *, tries: int = 1) -> bytes:
    return url.encode() * tries


@pipeline
async def decorated_async(url: str, *, tries: int = 1) -> bytes:
    return url.encode() * tries


@pipeline
def items(count: int) -> Iterator[int]:
    yield from range(count)


@pipeline
def dialogue(count: int) -> Generator[int, str, bool]:
    answer = yield count
    return answer == ""


@pipeline
async def async_items(count: int) -> AsyncIterator[int]:
    yield count


@pipeline
async def async_dialogue(count: int) -> AsyncGenerator[int, str]:
    yield count


class Api:
    @pipeline
    def method(self, key: str) -> int:
        return len(key)

    @pipeline
    async def async_method(self, key: str) -> int:
        return len(key)

    @staticmethod
    @pipeline
    def static(key: str) -> int:
        return len(key)

    @classmethod
    @pipeline
    def of_class(cls, key: str) -> int:
        return len(key)


def functions(api: Api) -> None:
    assert_type(decorated("x", tries=2), bytes)
    assert_type(retry(fetch)("x"), bytes)
    assert_type(items(1), Iterator[int])
    assert_type(dialogue(1), Generator[int, str, bool])
    assert_type(api.method("x"), int)
    assert_type(Api.static("x"), int)
    assert_type(Api.of_class("x"), int)
    assert_type(pipeline.call(fetch, "x", tries=2), bytes)
    wrapped: Callable[[str], bytes] = retry(fetch)
    wrapped("x")
    decorated(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    decorated("x", trials=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    api.method()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    pipeline.call(fetch, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def coroutine_functions(api: Api) -> None:
    assert_type(await decorated_async("x"), bytes)
    assert_type(await api.async_method("x"), int)
    assert_type(async_items(1), AsyncIterator[int])
    assert_type(async_dialogue(1), AsyncGenerator[int, str])
    assert_type(await pipeline.call_async(fetch_async, "x", tries=2), bytes)
    assert_type(await pipeline.call_async(lambda: fetch_async("x")), bytes)
    task = asyncio.create_task(decorated_async("x"))
    assert_type(await task, bytes)
    await decorated_async(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def blocks(limit: Timeout) -> int:
    with limit as same:
        assert_type(same, Timeout)
        return 1


async def async_blocks() -> str:
    async with pipeline as same:
        assert_type(same, Pipeline)
    return "done"


def helpers() -> None:
    assert_type(parse_retry_after("120"), float | None)
    Retry(retry_after=http_retry_after, retry_result=lambda response: response.status == 503)
    Fallback(call=lambda error: str(error), on=KeyError)
    compose(fetch)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
