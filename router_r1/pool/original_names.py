"""The original's rule for LLM names: the first pattern found in the lower-cased name wins."""

from __future__ import annotations

_LLAMA_SIZES = (
    ("70b", "meta/llama-3.1-70b-instruct"),
    ("51b", "nvidia/llama-3.1-nemotron-51b-instruct"),
    ("49b", "nvidia/llama-3.3-nemotron-super-49b-v1"),
)


def resolve_original_name(name: str) -> tuple[str, float]:
    """API model and temperature for a name the policy wrote; ("", 0) if none matches.

    The order decides: qwen, palmyra or creative, llama, mistral, mixtral, granite, gemma. So
    "creative writing" means Palmyra, as in the original, and "mixtral" does not contain "mistral".
    """
    lowered = name.strip().lower()
    if "qwen" in lowered:
        return "qwen/qwen2.5-7b-instruct", 0
    if "palmyra" in lowered or "creative" in lowered:
        return "writer/palmyra-creative-122b", 0
    if "llama" in lowered:
        return _resolve_llama(lowered), 0
    if "mistral" in lowered:
        return "mistralai/mistral-7b-instruct-v0.3", 0
    if "mixtral" in lowered:
        return "mistralai/mixtral-8x22b-instruct-v0.1", 0
    if "granite" in lowered:
        return "ibm/granite-3.0-8b-instruct", 0
    if "gemma" in lowered:
        return "google/gemma-2-27b-it", 0.1
    return "", 0


def _resolve_llama(lowered: str) -> str:
    for size, model in _LLAMA_SIZES:
        if size in lowered:
            return model
    if "8b" in lowered:
        chatqa = "chatqa" in lowered
        return "nvidia/llama3-chatqa-1.5-8b" if chatqa else "meta/llama-3.1-8b-instruct"
    return ""
