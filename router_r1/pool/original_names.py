"""The original's names of LLMs: the first rule whose parts are all in the lower-cased name decides.

So "creative writing" means Palmyra, as in the original, and "mixtral" does not contain "mistral".
"""

from __future__ import annotations

_RULES: tuple[tuple[tuple[str, ...], str, float], ...] = (
    (("qwen",), "qwen/qwen2.5-7b-instruct", 0),
    (("palmyra",), "writer/palmyra-creative-122b", 0),
    (("creative",), "writer/palmyra-creative-122b", 0),
    (("llama", "70b"), "meta/llama-3.1-70b-instruct", 0),
    (("llama", "51b"), "nvidia/llama-3.1-nemotron-51b-instruct", 0),
    (("llama", "49b"), "nvidia/llama-3.3-nemotron-super-49b-v1", 0),
    (("llama", "8b", "chatqa"), "nvidia/llama3-chatqa-1.5-8b", 0),
    (("llama", "8b"), "meta/llama-3.1-8b-instruct", 0),
    (("llama",), "", 0),  # of another size: none of those below
    (("mistral",), "mistralai/mistral-7b-instruct-v0.3", 0),
    (("mixtral",), "mistralai/mixtral-8x22b-instruct-v0.1", 0),
    (("granite",), "ibm/granite-3.0-8b-instruct", 0),
    (("gemma",), "google/gemma-2-27b-it", 0.1),
)


def resolve_original_name(name: str) -> tuple[str, float]:
    """API model and temperature for a name the policy wrote; ("", 0) if none matches."""
    lowered = name.strip().lower()
    for parts, model, temperature in _RULES:
        if all(part in lowered for part in parts):
            return model, temperature
    return "", 0
