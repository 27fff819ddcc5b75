"""The texts of ``--help``."""

from __future__ import annotations

import argparse
import pkgutil
from collections.abc import Iterable

from router_r1.cli.commands import COMMANDS, Command, ModuleCommand, ScriptCommand
from router_r1.cli.repository import recipes

_KEY_WIDTH = 42
_OVERVIEW = """\
usage: router-r1 COMMAND [ARGUMENT …]

Trains a small language model to route questions to other LLMs, scores it, asks it, serves it.

commands:
{commands}

  completion   print the completion script of bash, zsh or fish

router-r1 COMMAND --help shows a command's arguments. Paths, and the folder outputs/ of a run, are
those of the folder you are in.
"""
_SCRIPT = """\
usage: router-r1 {name} [recipe=NAME] [KEY=VALUE …]{options_usage}

{summary}. Installs first what is missing (as bash {script} does).

recipes:
{recipes}

KEY=VALUE overrides the configuration (configs/ppo_trainer.yaml, Hydra's grammar). Used most:
{overrides}
{options}
examples:
{examples}
"""


def overview() -> str:
    """What ``router-r1 --help`` shows."""
    return _OVERVIEW.format(commands=_list(((c.name, c.summary) for c in COMMANDS), 12))


def script_help(command: ScriptCommand) -> str:
    """What ``--help`` of a command shows that takes overrides."""
    options = f"\noptions:\n{_list(command.options, _KEY_WIDTH)}\n" if command.options else ""
    return _SCRIPT.format(
        name=command.name,
        options_usage="".join(f" [{option}]" for option, _ in command.options),
        summary=command.summary[0].upper() + command.summary[1:],
        script=" ".join(command.script),
        recipes=_list(recipes().items(), _KEY_WIDTH),
        overrides=_list(((f"{key}=", what) for key, what in command.overrides), _KEY_WIDTH),
        options=options,
        examples=_examples(command),
    )


def module_parser(command: ModuleCommand) -> argparse.ArgumentParser:
    """A command's argument parser, its help with examples."""
    make_parser = pkgutil.resolve_name(command.parser)
    parser: argparse.ArgumentParser = make_parser(prog=f"router-r1 {command.name}")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    known = f"{parser.epilog.rstrip()}\n\n" if parser.epilog else ""
    parser.epilog = f"{known}examples:\n{_examples(command)}"
    return parser


def _examples(command: Command) -> str:
    return _list(((f"router-r1 {line}", what) for line, what in command.examples), _KEY_WIDTH)


def _list(entries: Iterable[tuple[str, str]], width: int) -> str:
    lines = []
    for name, what in entries:
        if len(name) > width:
            lines += [f"  {name}", f"  {'':<{width}} {what}"]
        else:
            lines.append(f"  {name:<{width}} {what}")
    return "\n".join(lines)
