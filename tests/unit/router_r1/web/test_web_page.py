"""Putting a page together: modules in order, one policy, nothing that a browser would misread."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from router_r1.web.page import PageError, bundle, inline_page


def write(folder: Path, **modules: str) -> Path:
    for name, text in modules.items():
        (folder / f"{name}.js").write_text(text)
    return folder / "main.js"


def test_a_module_stands_once_and_after_all_that_it_imports(tmp_path: Path) -> None:
    entry = write(
        tmp_path,
        main='import { a } from "./a.js";\nimport {\n  b,\n} from "./b.js";\na(b);\n',
        a='import { b } from "./b.js";\nexport function a(x) { return b + x; }\n',
        b="export const b = 1; // export const c\n",
    )
    assert bundle(entry) == (
        "const b = 1; // export const c\n\nfunction a(x) { return b + x; }\n\na(b);\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        'import a from "./a.js";',
        'import { a } from "elsewhere";',
        "export default 3;",
        "export { a };",
    ],
)
def test_what_cannot_be_bundled_is_shown(tmp_path: Path, line: str) -> None:
    with pytest.raises(PageError, match=r"main\.js") as caught:
        bundle(write(tmp_path, main=f"{line}\n", a=""))
    assert line in str(caught.value)


def test_modules_that_import_each_other_are_refused(tmp_path: Path) -> None:
    entry = write(
        tmp_path, main='import { a } from "./a.js";\n', a='import { m } from "./main.js";\n'
    )
    with pytest.raises(PageError, match=r"by way of a\.js"):
        bundle(entry)


def test_the_policy_allows_this_script_and_what_is_named(tmp_path: Path) -> None:
    script = write(tmp_path, main="const price = '$1';\n")
    template, style = tmp_path / "page.html", tmp_path / "page.css"
    template.write_text("{{ policy }}|{{ style }}|{{ script }}|{{ title }}")
    style.write_text("a { color: red; }")
    page = inline_page(template, script, [style, style], "connect-src 'self'", title="<t>")
    policy, styles, code, title = page.split("|")
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert policy == (
        "default-src &#39;none&#39;; img-src data:; style-src &#39;unsafe-inline&#39;; "
        f"script-src &#39;sha256-{digest}&#39;; connect-src &#39;self&#39;"
    )
    assert (code, title) == ("const price = '$1';\n", "&lt;t&gt;")
    assert styles.count("color: red") == 2
