"""``python -m router_r1.serve``: the trained router as an OpenAI-compatible chat model.

What a client sees: the last user message is the question; earlier messages go before it as text (a
router is trained on single questions), as many as the prompt has room for. ``content`` is the
answer; what the router thought, asked and was told comes as ``reasoning_content``, and in a stream
each call also as an event (:mod:`router_r1.serve.stream`). ``usage`` counts the router's own
tokens, ``usage.pool`` what the LLMs it asked took. A trajectory without an answer has an empty
content and finish reason "length". ``/route`` tells which LLM the router would ask
(:mod:`router_r1.serve.route`). ``/`` is a page to ask on.
"""
