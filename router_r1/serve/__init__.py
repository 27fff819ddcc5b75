"""``python -m router_r1.serve``: the trained router as an OpenAI-compatible chat model.

What a client sees: ``content`` is the answer to the conversation's last question; what the router
thought, asked and was told comes as ``reasoning_content``, and in a stream each call also as an
event (:mod:`router_r1.serve.stream`). ``usage`` counts the router's own tokens, ``usage.pool`` what
the LLMs it asked took. A trajectory without an answer has an empty content and finish reason
"length".
"""
