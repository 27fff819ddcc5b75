"""Shell completion: a script for each shell, which asks this module what may come next.

Guarantees: where nothing is offered the shell completes files; a command line that cannot be
completed is no error.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from router_r1.cli.commands import COMMANDS, ModuleCommand, ScriptCommand
from router_r1.cli.help import module_parser
from router_r1.cli.repository import pools, recipes

_BASH = """\
_router_r1() {
  local line=${COMP_LINE:0:COMP_POINT} words word
  read -ra words <<<"$line"
  [[ $line == *' ' ]] && words+=("")
  word=${words[-1]}
  mapfile -t COMPREPLY < <("${words[0]}" completion next "${words[@]:1}" 2>/dev/null)
  [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
  # bash takes what stands before "=" for a word of its own
  [[ $word == *=* && $COMP_WORDBREAKS == *=* ]] && COMPREPLY=("${COMPREPLY[@]#*=}")
}
complete -o default -F _router_r1 router-r1
"""
_ZSH = """\
#compdef router-r1
_router_r1() {
  local -a found
  found=("${(@f)$("${words[1]}" completion next "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "${found[1]}" ]]; then
    compadd -S '' -- ${(M)found:#*=}
    compadd -- ${found:#*=}
  else
    _files
  fi
}
compdef _router_r1 router-r1
"""
_FISH = """\
function __router_r1
  set -l words (commandline -opc) (commandline -ct)
  $words[1] completion next $words[2..-1] 2>/dev/null
end
complete -c router-r1 -a '(__router_r1)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
USAGE = """\
usage: router-r1 completion {bash,zsh,fish}

Prints a completion script. To switch it on:
  bash   source <(router-r1 completion bash)      in ~/.bashrc
  zsh    source <(router-r1 completion zsh)       in ~/.zshrc, after compinit
  fish   router-r1 completion fish | source       in ~/.config/fish/config.fish
"""


def next_words(words: Sequence[str]) -> list[str]:
    """What may stand for the last of ``words``, which follow ``router-r1``; none means a file."""
    *before, word = words or [""]
    commands = {command.name: command for command in COMMANDS}
    if not before:
        return _beginning_with(word, [*commands, "completion", "--help", "--version"])
    match commands.get(before[0]):
        case ScriptCommand() as command:
            return _override(command, word)
        case ModuleCommand() as command:
            return _argument(module_parser(command), before[1:], word)
    return _beginning_with(word, SCRIPTS) if before == ["completion"] else []


def _override(command: ScriptCommand, word: str) -> list[str]:
    key, equals, _ = word.partition("=")
    values = {"recipe": recipes(), "pool": pools()}
    if equals:
        return _beginning_with(word, [f"{key}={value}" for value in values.get(key, ())])
    options = [option.split()[0] for option, _ in command.options]
    keys = [f"{key}=" for key, _ in command.overrides]
    return _beginning_with(word, [*keys, *options, "--help"] if word else keys)


def _argument(parser: argparse.ArgumentParser, before: Sequence[str], word: str) -> list[str]:
    choices = next((a.choices for a in parser._actions if isinstance(a.choices, dict)), None)
    if choices is not None:  # the subcommands' parsers
        if before and before[0] in choices:
            return _argument(choices[before[0]], before[1:], word)
        return _beginning_with(word, [*choices, "--help"])
    options = {option: action for action in parser._actions for option in action.option_strings}
    if before and before[-1] in options and options[before[-1]].nargs != 0:
        return _values(before[-1], options[before[-1]], word)
    if word.startswith("-"):
        return _beginning_with(word, (option for option in options if option.startswith("--")))
    positional = next((action for action in parser._actions if not action.option_strings), None)
    return [] if positional is None else _values(positional.dest, positional, word)


def _values(name: str, action: argparse.Action, word: str) -> list[str]:
    if name.lstrip("-") == "pool":
        return _beginning_with(word, pools())
    return _beginning_with(word, map(str, action.choices or ()))


def _beginning_with(word: str, candidates: Iterable[str]) -> list[str]:
    return [candidate for candidate in candidates if candidate.startswith(word)]
