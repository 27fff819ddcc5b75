"""What the documents name is there: commands, arguments, configuration keys, files, pictures."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from router_r1.config import RouterConfig
from router_r1.world.config import ColdStartConfig, EmbeddedWorldConfig
from tests.command_lines import WrongCommandError, check_line

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
_FENCE = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ANY_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMAND = re.compile(r"(?:\.venv/bin/)?(?:router-r1|python -m|bash|sbatch) \S")
_KEY = re.compile(r"([a-z_]+(?:\.[a-z_0-9]+)+)(?:=\S*)?")
_FILE = re.compile(r"[\w.-]+(?:/[\w.-]+)+\.(?:py|sh|yaml|md)")
_NAME = re.compile(r"[\w.]*[A-Z_][\w.]*(?:\(\))?")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


# -- what stands in the documents ----------------------------------------------------------


def outside_fences(document: Path) -> str:
    return _ANY_FENCE.sub("", document.read_text(encoding="utf-8"))


def spans(document: Path) -> list[str]:
    """What stands between backticks in text and tables."""
    return _SPAN.findall(outside_fences(document))


def command_lines() -> Iterator[tuple[str, str]]:
    """Each line of a bash block, and each command within the text, with its document's name."""
    for document in DOCUMENTS:
        for block in _FENCE.findall(document.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                if shlex.split(line, comments=True):
                    yield document.name, line
        for span in spans(document):
            if _COMMAND.match(span):
                yield document.name, span


COMMAND_LINES = list(dict.fromkeys(command_lines()))


def pools_that_readers_make() -> dict[str, str]:
    """Pools which the documents tell to make, and the pool each begins as."""
    copied = re.compile(r"cp configs/pool/(\w+)\.yaml configs/pool/(\w+)\.yaml")
    described = re.compile(r"pool describe (\w+) --output configs/pool/(\w+)\.yaml")
    made: dict[str, str] = {}
    for pattern in (copied, described):
        for _, line in COMMAND_LINES:
            if match := pattern.search(line):
                made[match[2]] = made.get(match[1], match[1])
    return made


MADE_POOLS = pools_that_readers_make()


# -- command lines -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", [pytest.param(line, id=f"{document}: {line}") for document, line in COMMAND_LINES]
)
def test_a_command_line_can_be_run(line: str) -> None:
    check_line(line, MADE_POOLS)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bash trian.sh", "no script trian.sh"),
        ("bash train.sh trainer.total_steps=5", "trainer.total_steps"),
        ("bash train.sh cost_coe=1.5", "cost_coe"),
        ("bash train.sh --chekc", "--chekc"),
        ("RECIPE=quickstrat bash train.sh", "quickstrat"),
        ("RECIPES=quickstart bash train.sh", "RECIPES"),
        ("DATASETS=nq,hotpot bash test.sh", "hotpot"),
        ("router-r1 train pool=yours", "yours"),
        ("router-r1 pool check yours", "yours"),
        ("router-r1 pool chek mine", "chek"),
        ("router-r1 tran", "tran"),
        ("curl http://127.0.0.1:8000/rout -d {}", "/rout"),
        ("curl http://127.0.0.1:8001/route -d {}", "8001"),
        ("router-r1 ask --qestion x", "--qestion"),
        ("source <(router-r1 completion tcsh)", "tcsh"),
        ("python -m router_r1.evaluation.raport", "raport"),
        ("python -m router_r1.evaluation.report --wach", "--wach"),
        ("python -m router_r1.pools check mine", "router_r1.pools"),
        ("python scripts/gpu_check.py --stage head", "--stage"),
        ("python data_process/qa_train_merge.py --sources nq", "--sources"),
        ("python -m pytest tests/unit/test_rewards.py", "test_rewards"),
        ("sbatch --nodes=2 scripts/slurm.sh trainer.node=2", "trainer.node"),
        ("mypy && routerr1 train", "no such command"),
    ],
)
def test_a_broken_command_line_is_found(line: str, words: str) -> None:
    with pytest.raises(WrongCommandError, match=re.escape(words)):
        check_line(line, MADE_POOLS)


# -- keys, names, files, links -------------------------------------------------------------


@pytest.fixture(scope="module")
def words_of_the_code() -> set[str]:
    """Every identifier in the code, its scripts and its configuration."""
    folders = ("verl", "router_r1", "data_process", "scripts", "configs")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    return {
        word
        for path in [*files, *ROOT.glob("*.sh"), *ROOT.glob("*.py")]
        if path.suffix in (".py", ".sh", ".yaml")
        for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))
    }


def config_holds(key: str) -> bool:
    """Whether a configuration key exists, by the dataclasses alone."""
    optional = {"world": EmbeddedWorldConfig, "cold_start": ColdStartConfig}
    owner: Any = RouterConfig
    for name in key.split("."):
        if not dataclasses.is_dataclass(owner):
            return True  # a free mapping, such as the chat template's options
        if name not in {field.name for field in dataclasses.fields(owner)}:
            return False
        hint = get_type_hints(owner)[name]
        inner = next(filter(dataclasses.is_dataclass, (hint, *get_args(hint))), None)
        owner = optional.get(name, inner)
    return True


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_the_text_names_is_there(document: Path, words_of_the_code: set[str]) -> None:
    groups = {field.name for field in dataclasses.fields(RouterConfig)}
    for span in spans(document):
        key = _KEY.fullmatch(span)
        if key and key[1].split(".")[0] in groups and not key[1].endswith((".py", ".yaml")):
            assert config_holds(key[1]), f"{document.name}: no configuration key {key[1]}"
        elif _NAME.fullmatch(span):
            name = span.removesuffix("()").rpartition(".")[2]
            assert name in words_of_the_code, f"{document.name}: no {span} in the code"
        if _FILE.fullmatch(span) and span.split("/")[0] in FOLDERS:
            assert (ROOT / span).is_file(), f"{document.name}: no file {span}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_resolve(document: Path) -> None:
    targets = _LINK.findall(outside_fences(document))
    for target in targets:
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), f"{document.name}: {target} leads nowhere"
        if anchor:
            assert anchor in anchors(path), f"{document.name}: {target} has no such heading"


def anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", outside_fences(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_stays_one_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 140
