"""``python -m router_r1.serve``: the trained router as an OpenAI-compatible chat model.

What a client sees: the last user message is the question; earlier messages go before it as text (a
router is trained on single questions). ``content`` is the answer; what the router thought, asked
and was told comes as ``reasoning_content``, and in a stream each call also as an event
(:mod:`router_r1.serve.stream`). ``usage`` counts the router's own tokens, ``usage.pool`` what the
LLMs it asked took. A trajectory without an answer has an empty content and finish reason "length".
``/`` is a page to ask on.
"""
