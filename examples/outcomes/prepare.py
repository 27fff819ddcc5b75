"""``python -m examples.outcomes.prepare [TABLE]``: the embedded world's LLMs, asked and recorded.

The table is an example of what ``router-r1 compare --outcomes`` reads: 200 questions to learn from
and 200 to be scored on, each put as it is to the six LLMs of the pool ``embedded``. Replies, tokens
and seconds are the simulated LLMs' own; nothing is started and nothing is called.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from router_r1.evaluation.answer import extract_short_answer
from router_r1.pool.loading import load_pool
from router_r1.reward import exact_match
from router_r1.world.config import WorldConfig
from router_r1.world.dataset import data_source
from router_r1.world.simulated_llm import World

COLUMNS = ("split", "data_source", "question", "llm", "answer", "right", "cost", "latency_s")
QUESTIONS = 200  # of each split


def prepare(path: Path) -> None:
    """Writes the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows(_rows())


def _rows() -> Iterator[tuple[object, ...]]:
    pool = load_pool("embedded")
    world = World(WorldConfig(), pool.simulated_names)
    for split in ("train", "test"):
        for question in world.knowledge.questions(split)[:QUESTIONS]:
            for llm in pool.offered:
                reply = world.reply(llm.name, question.text)
                answer = extract_short_answer(reply.text)
                right = exact_match(answer, question.answer)
                dollars = reply.prompt_tokens * llm.prompt_price / 1e6
                dollars += reply.completion_tokens * llm.completion_price / 1e6
                asked = split, data_source(question), question.text, llm.name
                yield *asked, answer, int(right), f"{dollars:.9f}", f"{reply.latency_s:.4f}"


if __name__ == "__main__":
    prepare(Path(sys.argv[1] if len(sys.argv) > 1 else "data/world_outcomes.csv"))
