"""Four HTTP clients with the same guards against one server that has a quota."""

from __future__ import annotations

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import httpx
import requests

from hastack import ratelimit
from hastack.contrib.aiohttp import guarded
from hastack.contrib.httpx import AsyncGuardedTransport, GuardedTransport
from hastack.contrib.requests import GuardedAdapter

QUOTA = 5
CALLS = 6


class Quota(BaseHTTPRequestHandler):
    """Five requests a second, and every seventh of all fails."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    second, used, served, refused = -1, 0, 0, 0

    def do_GET(self) -> None:
        status, left = self._count()
        self.send_response(status)
        self.send_header("RateLimit-Policy", f'"demo";q={QUOTA};w=1')
        self.send_header("RateLimit", f'"demo";r={left};t=1')
        if status == 429:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    @classmethod
    def _count(cls) -> tuple[int, int]:
        with cls.lock:
            now = int(time.monotonic())
            if now != cls.second:
                cls.second, cls.used = now, 0
            cls.used += 1
            if cls.used > QUOTA:
                cls.refused += 1
                return 429, 0
            cls.served += 1
            return 503 if cls.served % 7 == 0 else 200, QUOTA - cls.used

    def log_message(self, *args: object) -> None:
        """Nothing: the example prints what matters."""


def rules(trial: ratelimit.Shadow[ratelimit.TokenBucket]) -> dict[str, object]:
    """The same for every client; they share nothing but the trial."""
    guard = ratelimit.compose(
        trial,
        ratelimit.ServerLimits(),  # waits for the server's quota
        ratelimit.CircuitBreaker(failure_rate=0.8, min_calls=10),
        ratelimit.Timeout(5.0),
    )
    budget = ratelimit.RetryBudget(0.5)
    return {"guard": guard, "retry": ratelimit.Retry(5, base=0.01, budget=budget)}


def with_httpx(url: str, **given: object) -> list[int]:
    with httpx.Client(transport=GuardedTransport(**given)) as client:
        return [client.get(url).status_code for _ in range(CALLS)]


def with_requests(url: str, **given: object) -> list[int]:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", GuardedAdapter(**given))
        return [session.get(url).status_code for _ in range(CALLS)]


async def with_async_httpx(url: str, **given: object) -> list[int]:
    async with httpx.AsyncClient(transport=AsyncGuardedTransport(**given)) as client:
        answers = await asyncio.gather(*(client.get(url) for _ in range(CALLS)))
        return [answer.status_code for answer in answers]


async def with_aiohttp(url: str, **given: object) -> list[int]:
    async with aiohttp.ClientSession(middlewares=[guarded(**given)]) as session:

        async def get() -> int:
            async with session.get(url) as answer:
                await answer.read()
                return answer.status

        await get()  # what the server allows is known from here on
        return [200, *await asyncio.gather(*(get() for _ in range(CALLS - 1)))]


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Quota)
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    trial = ratelimit.Shadow(ratelimit.TokenBucket("1/s", burst=4, name="trial"))
    try:
        for ask in (with_httpx, with_requests):
            print(f"{ask.__name__}: {ask(url, **rules(trial)).count(200)} of {CALLS} answered")
            time.sleep(1.1)  # the next client knows nothing of what this one used
        for ask_async in (with_aiohttp,):
            got = asyncio.run(ask_async(url, **rules(trial)))
            print(f"{ask_async.__name__}: {got.count(200)} of {CALLS} answered")
        print(f"refused by the server: {Quota.refused}")
        time.sleep(1.1)
        got = asyncio.run(with_async_httpx(url, **rules(trial)))  # six at once, knowing nothing
        print(f"with_async_httpx: {got.count(200)} of {CALLS} answered")
        print("the trial would have refused some:", trial.refusals > 0)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    main()
