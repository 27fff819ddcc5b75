"""HTML and SVG from Python values.

Guarantees: whatever is not :class:`Markup` is escaped, as text and as attribute.
"""

from __future__ import annotations

import html

from markupsafe import Markup

ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
DASH = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"


def escape(value: object) -> Markup:
    """``value`` as it can stand in text or in a quoted attribute."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def join(*parts: object) -> Markup:
    """Parts one after the other."""
    return Markup("".join(escape(part) for part in parts))


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element; ``class_`` is class, ``stroke_width`` is stroke-width, None leaves one out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def _attribute(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
