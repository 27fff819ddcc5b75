"""Asks a trained router on the command line: one question, many, or at a prompt."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from router_r1.inference.arguments import RouterArguments
from router_r1.inference.questions import STDIN, read_questions, stdin_has_questions
from router_r1.inference.record import answer_record
from router_r1.inference.router import QuestionTooLongError, Router, open_router
from router_r1.inference.settings import RouterSettings, resolve
from router_r1.inference.terminal import ResultConsole, TerminalView
from router_r1.llm_agent.question import is_unicode
from router_r1.world.knowledge import Knowledge
from verl.errors import UserError
from verl.interfaces import RolloutRequest

logger = logging.getLogger(__name__)
_AT_ONCE = 32
_END_WORDS = ("exit", "quit")


def ask(namespace: argparse.Namespace) -> None:
    """Starts the router and answers, as the command line says."""
    results = _claim_stdout()
    settings = resolve(RouterArguments.from_namespace(namespace))
    questions = None if namespace.interactive else _questions(namespace, settings)
    try:
        with open_router(settings) as router:
            if questions is None:
                _converse(router, results)
                return
            asked = _requests(router, questions)
            if namespace.json:
                router.run(_write_all(router, asked, results))
            else:
                _show_all(router, asked, results)
    except BrokenPipeError:  # nobody reads (``| head``): what is buffered must not fail at exit
        with open(os.devnull, "wb") as silence:
            os.dup2(silence.fileno(), results.fileno())


def _claim_stdout() -> TextIO:
    """The real standard output. From here on, all else that this process and those it starts
    print, as libraries do, goes to stderr: a result must not stand among that."""
    sys.stdout.flush()
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return results


def _questions(namespace: argparse.Namespace, settings: RouterSettings) -> list[str]:
    if namespace.question is not None:
        if not namespace.question.strip():
            raise UserError("--question is empty")
        return [namespace.question]
    if namespace.questions_file is not None:
        return read_questions(namespace.questions_file)
    if stdin_has_questions():
        return read_questions(STDIN)
    if not settings.pool.needs_server:
        raise UserError("what is the question? Pass --question, --questions_file or --interactive")
    questions = Knowledge(settings.world).questions("test")
    example = next(question for question in questions if len(question.hops) > 1)
    logger.info("no question given; an example from the embedded world's test questions")
    return [example.text]


def _requests(router: Router, questions: Sequence[str]) -> list[tuple[str, RolloutRequest]]:
    """All requests, so that a question that cannot be asked is refused before the first call."""
    asked = []
    for number, question in enumerate(questions, start=1):
        if not is_unicode(question):
            raise UserError(f"question {number} is no Unicode text: {question!a}")
        try:
            asked.append((question, router.request(question)))
        except QuestionTooLongError as error:
            where = f"question {number}: " if len(questions) > 1 else ""
            raise UserError(f"{where}{error}; see --max_start_length") from error
    return asked


def _show_all(router: Router, asked: Sequence[tuple[str, RolloutRequest]], results: TextIO) -> None:
    console = ResultConsole(results)
    for index, (question, request) in enumerate(asked):
        if index:
            console.print()
        view = TerminalView(console, router.settings.tags)
        view.show_question(question)
        router.run(router.answer(request, view))


async def _write_all(
    router: Router, asked: Sequence[tuple[str, RolloutRequest]], results: TextIO
) -> None:
    """Answers many at once and writes them in order, each as soon as those before it are out.

    A place is free once its answer is written: where nobody reads any more, little was asked for
    nothing.
    """
    places = asyncio.Semaphore(_AT_ONCE)

    async def answer(question: str, request: RolloutRequest) -> str:
        await places.acquire()
        record = answer_record(question, await router.answer(request))
        return json.dumps(record, ensure_ascii=False) + "\n"

    try:
        async with asyncio.TaskGroup() as group:
            for task in [group.create_task(answer(*each)) for each in asked]:
                results.write(await task)
                results.flush()
                places.release()
    except ExceptionGroup as group_error:  # the engine failed, or nobody reads
        raise group_error.exceptions[0] from group_error


def _converse(router: Router, results: TextIO) -> None:
    """Asks for questions until the input ends; Ctrl-C takes back the question under way."""
    console = ResultConsole(results)
    if sys.stdin.isatty():
        console.print("Ask a question; Ctrl-C takes it back, Ctrl-D ends.", style="dim")
    while True:
        try:
            question = input("\n> ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if question.lower() in _END_WORDS:
            return
        if not question:
            continue
        try:
            router.run(
                router.answer(router.request(question), TerminalView(console, router.settings.tags))
            )
        except QuestionTooLongError as error:
            console.print(str(error), style="yellow")
        except KeyboardInterrupt:
            console.print("\ntaken back", style="yellow")
