"""A page with a budget of 400 ms, three back ends over HTTP, and one of them slow."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hastack import context
from hastack.contrib import propagate
from hastack.errors import ContextError, DeadlineExceeded

WORK = {"/price": 0.03, "/stock": 0.05, "/recommendations": 1.2}  # seconds of computing
computed = {}  # path -> seconds that the back end spent on it


class BackEnd(BaseHTTPRequestHandler):
    """A synchronous service: it cannot be interrupted, but it can look at its context."""

    def do_GET(self):
        start = time.monotonic()
        with propagate.from_headers(self.headers, max_timeout=10.0) as ctx:
            try:
                for _ in range(int(WORK[self.path] / 0.01)):
                    ctx.check()
                    time.sleep(0.01)  # one piece of the computation
                self.send_response(200)
            except DeadlineExceeded:
                self.send_response(504)
            finally:
                computed[self.path] = time.monotonic() - start
        try:
            self.end_headers()
            self.wfile.write(b"fine\n")
        except ConnectionError:
            pass  # the caller has gone

    def log_message(self, *args):
        pass


def get(url, *, tell_deadline=True):
    """A blocking client: takes the remaining time, and passes it on."""
    headers = propagate.outgoing_headers() if tell_deadline else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=context.current().remaining()) as answer:
        return answer.read()


async def page(base, *, tell_deadline):
    """Ask all three at once; what is not there in time is left out."""
    answers = {}

    async def ask(path):
        # to_thread inherits the context; a raw thread or executor would need context.bind.
        answers[path] = await asyncio.to_thread(get, base + path, tell_deadline=tell_deadline)

    start = time.monotonic()
    try:
        async with context.timeout(0.4), asyncio.TaskGroup() as group:
            for path in WORK:
                group.create_task(ask(path))
    except* (DeadlineExceeded, OSError) as errors:
        print(f"   left out: {errors.exceptions[0]}")
    finally:
        took = time.monotonic() - start
        with context.without_cancel(), context.timeout(1.0):
            await context.sleep_async(0.01)  # the audit is written whatever happened
            print(f"   audit written; page after {took * 1000:.0f} ms with {sorted(answers)}")


@contextmanager
def back_end():
    server = ThreadingHTTPServer(("127.0.0.1", 0), BackEnd)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def show(base, *, tell_deadline):
    asyncio.run(page(base, tell_deadline=tell_deadline))
    while "/recommendations" not in computed:
        time.sleep(0.01)
    spent = computed.pop("/recommendations")
    print(f"   the slow back end computed for {spent * 1000:.0f} ms")


def main():
    with back_end() as base:
        print("1. The back ends are told the remaining time.")
        show(base, tell_deadline=True)
        print("2. They are not told.")
        show(base, tell_deadline=False)

    print("3. An operator ends a request from another thread.")
    with context.timeout(5.0) as ctx:
        threading.Timer(0.05, ctx.cancel, ("drained by the operator",)).start()
        try:
            context.sleep(5.0)
        except ContextError as error:
            print(f"   {error}")


if __name__ == "__main__":
    main()
