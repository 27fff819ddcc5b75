"""Puts an HTML page, its style and its script into one text.

Guarantees: the page holds all that it needs; its policy forbids every script but its own, and
every request that is not named.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent
THEME = FOLDER / "theme.css"
TRAJECTORY_STYLE = FOLDER / "trajectory.css"
FIGURES_STYLE = FOLDER / "figures.css"
# To be sent with every page: what its own policy cannot say.
HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?function |class |const |let )", re.MULTILINE)
_LEFT_OVER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


class PageError(ValueError):
    """A script that cannot be bundled: a fault of the program, not of its user."""


def bundle(entry: Path) -> str:
    """An ES module with all that it imports, as the text of one module.

    Modules share one scope there, each after those it imports: their top-level names must differ
    (the browser refuses the script otherwise), and imports cannot rename.

    Raises:
        PageError: for an import or export in another form than ``import { a, b } from "./x.js"``
            and ``export function``, ``class``, ``const`` or ``let``, or for modules that import
            each other.
    """
    texts: dict[Path, str] = {}

    def collect(module: Path, importers: tuple[Path, ...]) -> None:
        if module in importers:
            raise PageError(f"{module} imports itself, by way of {importers[-1].name}")
        if module in texts:
            return
        source = module.read_text(encoding="utf-8")
        for name in _IMPORT.findall(source):
            collect((module.parent / name).resolve(), (*importers, module))
        texts[module] = _EXPORT.sub("", _IMPORT.sub("", source))
        if left := _LEFT_OVER.search(texts[module]):
            raise PageError(f"{module} cannot be bundled because of this line: {left.group()}")

    collect(entry.resolve(), ())
    return "\n".join(texts.values())


def inline_page(
    template: Path, script: Path, styles: Sequence[Path], policy: str = "", **values: object
) -> str:
    """The page as HTML.

    Args:
        template: extends ``base.html``, the head of every page.
        script: its entry module.
        policy: directives to add to the Content-Security-Policy, such as ``connect-src 'self'``.
        values: for the template; what is not markup is escaped.
    """
    code = bundle(script)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    own = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    own += f"script-src 'sha256-{digest}'"
    return render(
        template,
        policy=f"{own}; {policy}" if policy else own,
        style=Markup("\n".join(style.read_text(encoding="utf-8") for style in styles)),
        script=Markup(code),
        **values,
    )


def render(template: Path, **values: object) -> Markup:
    """A template, which may include those beside it and those of this package.

    Raises:
        jinja2.UndefinedError: for a value that the template needs and does not get.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return Markup(environment.get_template(template.name).render(**values))
