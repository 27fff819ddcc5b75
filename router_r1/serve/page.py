"""The chat page that the server answers ``/`` with.

Guarantees: it is the same for everyone, holds no key and no setting, loads nothing, and may speak
to its own server only.
"""

from __future__ import annotations

import functools
from pathlib import Path

from aiohttp import web

from router_r1.web.page import HEADERS, THEME, TRAJECTORY_STYLE, inline_page

_FOLDER = Path(__file__).parent / "chat"


@functools.cache
def chat_page() -> str:
    """The page as HTML."""
    return inline_page(
        _FOLDER / "page.html",
        _FOLDER / "page.js",
        [THEME, TRAJECTORY_STYLE, _FOLDER / "page.css"],
        "connect-src 'self'",
    )


def page_response() -> web.Response:
    """The page with the headers that guard it."""
    headers = {**HEADERS, "Cache-Control": "no-cache"}
    return web.Response(text=chat_page(), content_type="text/html", headers=headers)
