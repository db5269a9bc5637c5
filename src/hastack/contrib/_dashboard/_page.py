"""The page: one HTML document with its style and script inside, and the policy that fits it."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

__all__ = ("page",)

_HERE: Final = Path(__file__).with_name("page")


@cache
def page() -> tuple[bytes, bytes]:
    """The document and its ``Content-Security-Policy``, which lets in what is in it, by its hash."""
    style = _HERE.joinpath("page.css").read_text(encoding="utf-8")
    script = _HERE.joinpath("page.js").read_text(encoding="utf-8")
    frame = _HERE.joinpath("page.html").read_text(encoding="utf-8")
    html = frame.replace("/*style*/", style).replace("/*script*/", script)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    return html.encode(), policy.encode()


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
