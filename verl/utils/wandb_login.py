"""Whether wandb can work online here, and if not, why not; without waiting for its time-outs."""

from __future__ import annotations

import netrc
import os
import socket
import threading
import urllib.request
from contextlib import suppress
from urllib.parse import urlsplit

_DEFAULT_URL = "https://api.wandb.ai"
_PATIENCE_S = 3.0


def choose_mode() -> tuple[str, str]:
    """wandb's mode, and why it is not "online" ("" if it is, or if the user chose it)."""
    if chosen := os.environ.get("WANDB_MODE"):
        return chosen, ""
    url = os.environ.get("WANDB_BASE_URL", _DEFAULT_URL)
    if not _has_login(url):
        return "offline", "there is no login: set WANDB_API_KEY, or run `wandb login`"
    if not _is_reachable(url):
        return "offline", f"{url} cannot be reached from here"
    return "online", ""


def _has_login(url: str) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = os.environ.get("NETRC")
    # In the order in which wandb looks for them.
    for path in map(os.path.expanduser, [named] if named else ["~/.netrc", "~/_netrc"]):
        try:
            if netrc.netrc(path).authenticators(urlsplit(url).hostname or ""):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _is_reachable(url: str) -> bool:
    """Whether something listens there; behind a proxy only wandb itself can tell."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if urllib.request.getproxies().get(parts.scheme) and not urllib.request.proxy_bypass(host):
        return True
    port = parts.port or (443 if parts.scheme == "https" else 80)
    answered = threading.Event()

    def connect() -> None:
        with suppress(OSError):
            socket.create_connection((host, port), timeout=_PATIENCE_S).close()
            answered.set()

    # Looking a name up knows no time limit, so it gets a thread that may outlive this call.
    probe = threading.Thread(target=connect, name="wandb probe", daemon=True)
    probe.start()
    probe.join(_PATIENCE_S)
    return answered.is_set()
