"""The entry point of ``router-r1``: finds the subcommand, shows help, or runs it."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Sequence

from router_r1.cli import completion, help
from router_r1.cli.commands import COMMANDS, ModuleCommand, ScriptCommand
from router_r1.cli.repository import run_script
from verl.errors import UserError
from verl.utils.command import run_as_command

_HELP = ("-h", "--help")


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and exit code 2."""
    run_as_command(_run)


def _run(words: list[str]) -> object:
    """Runs the command line; the exit code, unless it is None."""
    if not words or words[0] in _HELP:
        return _print(help.overview())
    if words[0] == "--version":
        from importlib import metadata

        return _print(f"router-r1 {metadata.version('router-r1')}\n")
    name, arguments = words[0], words[1:]
    if name == "completion":
        return _complete(arguments)
    commands = {command.name: command for command in COMMANDS}
    match commands.get(name):
        case ScriptCommand() as command:
            if any(word in _HELP for word in arguments):
                return _print(help.script_help(command))
            run_script(command.script, arguments)
        case ModuleCommand() as command:
            # Ends here for --help and for what is wrong, before what takes seconds to import.
            help.module_parser(command).parse_args(arguments)
            code: object = pkgutil.resolve_name(command.main)(arguments)
            return code
    from difflib import get_close_matches

    near = get_close_matches(name, [*commands, "completion"], n=1)
    advice = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(commands)}"
    raise UserError(f"router-r1 has no command {name!r}; {advice}")


def _complete(arguments: Sequence[str]) -> int:
    shell = arguments[0] if arguments else ""
    if shell == "next":
        return _print("".join(f"{word}\n" for word in completion.next_words(arguments[1:])))
    if shell in completion.SCRIPTS:
        return _print(completion.SCRIPTS[shell])
    if shell in _HELP:
        return _print(completion.USAGE)
    shells = ", ".join(completion.SCRIPTS)
    raise UserError(f"router-r1 completion {shell!r}: choose a shell, one of {shells}")


def _print(text: str) -> int:
    """As it is: rich would wrap and colour what a shell takes word for word. The exit code."""
    sys.stdout.write(text)
    return 0
