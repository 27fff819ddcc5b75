"""``python -m router_r1.inference``, which ``infer_vllm.py`` is as well: asks a trained router."""

from __future__ import annotations

from router_r1.inference.arguments import asking_parser
from verl.utils.command import run_as_command


def main(arguments: list[str]) -> None:
    """Parses, starts the router, answers."""
    parser = asking_parser()
    namespace = parser.parse_args(arguments)
    if namespace.json and namespace.interactive:
        parser.error("--json goes with --question or --questions_file, not with --interactive")
    # Only now what takes seconds to import: the help is there at once.
    from router_r1.inference.command import ask

    ask(namespace)


if __name__ == "__main__":
    run_as_command(main)
