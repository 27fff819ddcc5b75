"""Whether Hugging Face's hub can be reached, without its client's half minute of retries."""

from __future__ import annotations

import functools
import urllib.error
import urllib.request

from huggingface_hub.constants import ENDPOINT

_TIMEOUT_S = 5.0


@functools.cache
def hub_answers() -> bool:
    """Whether the hub, or the mirror that ``HF_ENDPOINT`` names, answers at all."""
    try:
        urllib.request.urlopen(ENDPOINT, timeout=_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True
