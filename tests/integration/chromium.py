"""Drives a headless Chromium over its DevTools protocol, as far as the page tests need it."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
]
_START_TIMEOUT_S = 60


def chromium_path() -> str | None:
    """The browser's executable, None where there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[str]:
    """A fresh browser; yields the address of its DevTools and ends it."""
    executable = chromium_path()
    assert executable is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [executable, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield _devtools_address(process)
        finally:
            process.terminate()
            process.communicate(timeout=30)


def _devtools_address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    deadline = time.monotonic() + _START_TIMEOUT_S
    for line in process.stderr:
        if match := re.search(r"ws://(127\.0\.0\.1:\d+)/", line):
            return match.group(1)
        if time.monotonic() > deadline:
            break
    raise RuntimeError("Chromium did not start")


class Page:
    """One tab; ``problems`` holds console errors, exceptions and requests that left the page.

    Args:
        address: of the browser's DevTools.
        width, height: of the window, in pixels.
        dark: which colour scheme the tab prefers.
        origin: of the server whose page it shows, such as ``http://127.0.0.1:8000/``; None for a
            file, which may ask for nothing.
    """

    def __init__(
        self,
        address: str,
        width: int = 1280,
        height: int = 800,
        dark: bool = False,
        origin: str | None = None,
    ) -> None:
        self._address = address
        self._size = (width, height)
        self._scheme = "dark" if dark else "light"
        self._own = ("file:", "data:", "blob:", "about:", *([origin] if origin else []))
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.problems: list[str] = []

    async def __aenter__(self) -> Page:
        self._session = aiohttp.ClientSession()
        async with self._session.put(f"http://{self._address}/json/new") as response:
            target = await response.json(content_type=None)
        self._target = target["id"]
        self._socket = await self._session.ws_connect(
            target["webSocketDebuggerUrl"], max_msg_size=0
        )
        self._reader = asyncio.create_task(self._read())
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")
        # Keys reach a tab only while it has the focus.
        await self.send("Page.bringToFront")
        await self.send("Emulation.setFocusEmulationEnabled", enabled=True)
        width, height = self._size
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": self._scheme}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.cancel()
        await self._socket.close()
        await self._session.get(f"http://{self._address}/json/close/{self._target}")
        await self._session.close()

    async def _read(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if "id" in event:
                self._replies.pop(event["id"]).set_result(event)
                continue
            method, details = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                self.problems.append(json.dumps(details["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning"):
                self.problems.append(json.dumps(details["args"]))
            elif method == "Log.entryAdded" and details["entry"]["level"] == "error":
                self.problems.append(details["entry"]["text"])
            elif method == "Network.requestWillBeSent":
                url = details["request"]["url"]
                if not url.startswith(self._own):
                    self.problems.append(f"request to {url}")

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; its result."""
        number = next(self._numbers)
        self._replies[number] = asyncio.get_running_loop().create_future()
        reply = self._replies[number]
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(reply, timeout=120)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        result = await self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def wait_for(self, expression: str, patience_s: float = 30.0) -> Any:
        """The expression's value as soon as it is truthy."""
        deadline = time.monotonic() + patience_s
        while not (value := await self.evaluate(expression)):
            assert time.monotonic() < deadline, f"never true: {expression}"
            await asyncio.sleep(0.02)
        return value

    async def open_report(self, path: Path, fragment: str = "") -> int:
        """Opens a report; milliseconds from the navigation until it is usable."""
        await self.send("Page.navigate", url="about:blank")
        await self.send("Page.navigate", url=f"{path.resolve().as_uri()}{fragment}")
        return int(await self.wait_for("document.documentElement?.dataset.ready"))

    async def type(self, text: str) -> None:
        """Text into whatever has the focus."""
        await self.send("Input.insertText", text=text)

    async def press(self, key: str) -> None:
        """One key on whatever has the focus."""
        text = {"text": key} if len(key) == 1 else {}
        await self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        await self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def screenshot(self, image: Path, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        result = await self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        image.write_bytes(base64.b64decode(result["data"]))
