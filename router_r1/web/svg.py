"""A figure as part of a page: the picture that is also written as PNG, in the page's own ink.

Guarantees: the same figure gives the same text; words are text in the page's font, escaped;
colours of the theme follow it from light to dark; it refers to nothing outside itself.
"""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib.figure import Figure

from router_r1.web.page import THEME
from verl.utils.plots import HINT

_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_COLOUR = re.compile(r"--([\w-]+): light-dark\((#\w{6}), #\w{6}\)")
# Name of each colour of the theme to its light form, in which figures are drawn.
COLOURS: dict[str, str] = dict(_COLOUR.findall(THEME.read_text(encoding="utf-8")))
_VARIABLES = {colour: f"var(--{name})" for name, colour in reversed(COLOURS.items())}


def css_colour(colour: str) -> str:
    """The theme's name of a colour, which is light or dark with the page."""
    return _VARIABLES.get(colour, colour)


def inline_svg(figure: Figure, label: str) -> Markup:
    """The figure as an ``svg`` element, ``label`` to those who do not see it."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(text.getvalue())
    root.remove(root.find(f"{_SVG}metadata"))  # type: ignore[arg-type]
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": "chart", "role": "img"}
    root.set("aria-label", label)
    for parent in list(root.iter()):
        _make_inline(parent)
    ElementTree.register_namespace("", _SVG.strip("{}"))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _make_inline(element: ElementTree.Element) -> None:
    """Hints become tooltips, and what names the place in matplotlib's own tree goes."""
    if element.tag == f"{_SVG}g":
        gid = element.attrib.pop("id", "")
        if gid.startswith(HINT):
            title = ElementTree.Element(f"{_SVG}title")
            title.text = gid.removeprefix(HINT)
            element.insert(0, title)
    if _LINK in element.attrib:
        element.set("href", element.attrib.pop(_LINK))
    if style := element.get("style"):
        style = re.sub(r"font-family: [^;]*;? ?", "", style)
        element.set("style", re.sub(r"#\w{6}", lambda colour: css_colour(colour[0]), style))
