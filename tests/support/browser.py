"""A headless Chromium, driven over a pair of pipes with the DevTools protocol; no client needed.

``--remote-debugging-pipe``: commands go in on descriptor 3, answers and events come out on 4, each
a JSON text with a NUL behind it.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

PATIENCE = 40.0  # only ends what hangs


def chromium() -> str | None:
    """The browser of this machine."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def _high(descriptor: int) -> int:
    """The same, beyond the two numbers that the browser wants."""
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return high


class Refused(Exception):
    """The browser did not do what it was told."""


class Browser:
    """One browser with one page.

    Attributes:
        messages: What the page wrote to its console, and errors that nobody caught.
        requests: Every address that it asked for.
    """

    def __init__(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        binary = chromium()
        assert binary is not None
        self._home = tempfile.mkdtemp(prefix="hastack-chromium-")
        ours_in, their_out = (_high(each) for each in os.pipe())
        their_in, ours_out = (_high(each) for each in os.pipe())
        flags = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", "--disable-extensions", "--disable-default-apps", "--mute-audio"),
            *("--no-proxy-server", "--hide-scrollbars", "--force-color-profile=srgb"),
            *("--remote-debugging-pipe", f"--user-data-dir={self._home}"),
        ]
        # A shell puts the pipes where the browser looks for them.
        script = f'exec "$@" 3<&{their_in} 4>&{their_out} {their_in}<&- {their_out}>&-'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", script, "sh", binary, *flags, "about:blank"],
            pass_fds=(their_in, their_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(their_in)
        os.close(their_out)
        self._in, self._out = ours_in, ours_out
        self._text = b""
        self._number = 0
        self._session: str | None = None
        self.messages: list[str] = []
        self.requests: list[str] = []
        try:
            targets = self.send("Target.getTargets")["targetInfos"]
            page = next(each["targetId"] for each in targets if each["type"] == "page")
            attached = self.send("Target.attachToTarget", targetId=page, flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.send(f"{domain}.enable")
            self.size(width, height)
            self.prefer("dark" if dark else "light")
        except BaseException:
            self.close()
            raise

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command, and its answer."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while True:
            answer = self._read(end)
            if answer.get("id") == number:
                if "error" in answer:
                    raise Refused(f"{method}: {answer['error']}")
                found: dict[str, Any] = answer["result"]
                return found
            self._heard(answer)

    def _read(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._text:
            ready, _, _ = select.select([self._in], [], [], max(end - time.monotonic(), 0.0))
            assert ready, "the browser does not answer"
            piece = os.read(self._in, 1 << 16)
            assert piece, "the browser is gone"
            self._text += piece
        line, _, self._text = self._text.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _heard(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled":
            said = " ".join(
                str(each.get("value", each.get("description"))) for each in params["args"]
            )
            self.messages.append(f"{params['type']}: {said}")
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.messages.append(f"exception: {details.get('exception', {}).get('description')}")
        elif method == "Log.entryAdded":
            self.messages.append(f"{params['entry']['level']}: {params['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def open(self, address: str) -> None:
        """Go there, and wait until the document is read."""
        self.send("Page.navigate", url=address)
        wanted = json.dumps(address)
        self.until(f"location.href === {wanted} && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """What an expression comes to."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            # Between two pages there is nobody to ask.
            with contextlib.suppress(Refused):
                if self.run(f"!!({script})"):  # an element would come over as an empty object
                    return
            time.sleep(0.05)
        raise AssertionError(f"{script} never came true; {self.messages}")

    def press(self, key: str, **more: Any) -> None:
        """A key goes down and up; ``text`` is what it types."""
        typed = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **typed, **more)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, **more)

    def type(self, text: str) -> None:
        """Text into what has the focus."""
        self.send("Input.insertText", text=text)

    def size(self, width: int, height: int) -> None:
        """The size of the window, in CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )

    def prefer(self, scheme: str) -> None:
        """``light`` or ``dark``, as the system would say."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: str | Path, *, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """End the browser and everything it started."""
        for each in (self._out, self._in):
            os.close(each)
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
