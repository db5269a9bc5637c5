"""``hastack top``: the dashboard of a running service in the terminal."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, final

from hastack._core._extras import require

from .top._fetch import Source, Unreachable, Unusable
from .top._keyboard import Keyboard
from .top._screen import Choice, frame
from .top._tables import VIEWS
from .top._words import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    import click
    from rich import console as _console
    from rich import live as _live
else:
    click = require("click", extra="cli")
    _console = require("rich.console", extra="cli")
    _live = require("rich.live", extra="cli")

__all__ = ("top",)

_LOOK = 0.5  # seconds; so often a resized terminal is noticed
_LONGEST_PAUSE = 5.0  # seconds between two tries while nobody answers


@click.command()
@click.argument("url", required=False, envvar="HASTACK_TOP_URL")
@click.option("--token", envvar="HASTACK_TOP_TOKEN", help="Bearer token; or HASTACK_TOP_TOKEN.")
@click.option(
    "--every", default=1.0, show_default=True, type=click.FloatRange(0.1), help="Seconds."
)
@click.option(
    "--timeout", default=5.0, show_default=True, type=click.FloatRange(0.1), help="For one answer."
)
@click.option("--once", is_flag=True, help="Show it once and exit.")
@click.option("--count", type=click.IntRange(1), help="Looks; without it until q or Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document per look.")
@click.option("--demo", is_flag=True, help="Show guards that this command itself drives.")
def top(
    url: str | None,
    token: str | None,
    every: float,
    timeout: float,
    once: bool,
    count: int | None,
    as_json: bool,
    demo: bool,
) -> None:
    """Show what is alive in the service whose dashboard is at URL, live.

    URL is where hastack.contrib.dashboard.Dashboard is mounted, http://127.0.0.1:8000/dashboard
    for example. Keys: q quits, s sorts, p pauses, 0 to 5 choose a view. When the service goes
    away, the last values stay, and it goes on when the service is back.

    Exit status: 0 ended by q, Ctrl-C or --count; 1 nobody answers (with --once, --json or without
    a terminal); 2 wrong usage, or no dashboard there.
    """
    if demo:
        from .top._demo import Demo

        source: Any = Demo()
    elif url is None:
        raise click.UsageError("say where: hastack top URL, HASTACK_TOP_URL, or --demo")
    else:
        try:
            source = Source(url, token=token, timeout=timeout)
        except Unusable as error:
            raise click.UsageError(str(error)) from None
    looks = 1 if once else count
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name may be more than the terminal can say
    live = sys.stdout.isatty() and not once and not as_json
    try:
        if live:
            _watch(source, every, looks)
        else:
            _print(source, every, looks, as_json=as_json)
    except (Unusable, Unreachable) as error:
        click.echo(f"hastack top: {error}", err=True)
        sys.exit(2 if isinstance(error, Unusable) else 1)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        with suppress(OSError):  # nobody reads: nothing may be flushed at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        source.close()


def _print(source: Any, every: float, looks: int | None, *, as_json: bool) -> None:
    """Without a terminal: one document, or one screenful, per look."""
    console = _console.Console(highlight=False, soft_wrap=False)
    done = 0
    while True:
        found = source.fetch()
        done += 1
        if as_json:
            click.echo(json.dumps(found))
        else:
            status = f"{source.url}, {time.strftime('%H:%M:%S')}"
            plain = not (console.encoding or "").lower().startswith("utf")
            console.print(
                frame(
                    found,
                    Choice(),
                    width=console.width,
                    height=None,
                    status=status,
                    lost=False,
                    plain=plain,
                )
            )
        if done == looks:
            return
        time.sleep(every)


@final
class _Fetcher:
    """Fetches on a thread, so that a service that does not answer never holds up a key."""

    def __init__(self, source: Any, every: float) -> None:
        self.snapshot: dict[str, Any] | None = None
        self.error: Exception | None = None
        self.answered_at: float | None = None
        self.looks = 0
        self._source = source
        self._every = every
        self._stop = threading.Event()
        self.wake, self._news = os.pipe()
        os.set_blocking(self._news, False)
        self._thread = threading.Thread(target=self._run, daemon=True, name="hastack-top")

    def __enter__(self) -> _Fetcher:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        # It may sit in a request for its whole time; the process does not wait for that.
        self._thread.join(0.2)
        if not self._thread.is_alive():
            os.close(self._news)
            os.close(self.wake)

    def _run(self) -> None:
        pause = self._every
        while not self._stop.is_set():
            try:
                self.snapshot = self._source.fetch()
                self.error = None
                self.answered_at = time.monotonic()
                self.looks += 1
                pause = self._every
            except Exception as error:
                self.error = error
                pause = min(max(pause * 1.5, self._every), max(_LONGEST_PAUSE, self._every))
            with suppress(OSError):  # full: there is news already
                os.write(self._news, b"n")
            self._stop.wait(pause)


def _watch(source: Any, every: float, looks: int | None) -> None:
    console = _console.Console(highlight=False)
    plain = not (console.encoding or "").lower().startswith("utf")
    choice = Choice()
    with (
        Keyboard() as keyboard,
        _Fetcher(source, every) as fetcher,
        _live.Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        kept: dict[str, Any] | None = None
        while looks is None or fetcher.looks < looks:
            if isinstance(fetcher.error, Unusable) and fetcher.looks == 0:
                raise fetcher.error  # wrong from the start: waiting mends nothing
            if not choice.paused:
                kept = fetcher.snapshot
            status, lost = _status(fetcher, source.url, paused=choice.paused)
            width, height = console.size
            shown = frame(
                kept, choice, width=width, height=height, status=status, lost=lost, plain=plain
            )
            live.update(shown, refresh=True)
            for key in keyboard.keys(fetcher.wake, _LOOK):
                if not _press(key, choice):
                    return


def _status(fetcher: _Fetcher, url: str, *, paused: bool) -> tuple[str, bool]:
    """What to say about the connection, and whether it is lost."""
    error = fetcher.error
    if error is None:
        if fetcher.answered_at is None:
            return f"connecting to {url}", False
        return f"{url}{', paused' if paused else ''}", False
    if fetcher.answered_at is None:
        return f"no connection yet: {error}; trying again", True
    ago = seconds(time.monotonic() - fetcher.answered_at)
    return f"lost {ago} ago: {error}; trying again", True


def _press(key: str, choice: Choice) -> bool:
    """Do what a key means; whether to go on."""
    actions: dict[str, Callable[[], None]] = {"s": choice.next_sort}
    if key in {"q", "Q"}:
        return False
    if key == "p":
        choice.paused = not choice.paused
    elif key.isdigit() and int(key) < len(VIEWS):
        choice.view = int(key)
    elif key in actions:
        actions[key]()
    return True
