"""Writes the world's questions as parquet files with the rows that training reads.

Guarantees: a file is there whole or not at all.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from router_r1.llm_agent.prompt import build_prompt_template, fill
from router_r1.pool.config import PoolConfig
from router_r1.tags import DEFAULT_TAGS, Tags
from router_r1.world.knowledge import SPLITS, Question
from router_r1.world.simulated_llm import World
from verl.utils.files import written_whole


def data_source(question: Question) -> str:
    """Name of the benchmark that a question belongs to."""
    return "world_onehop" if len(question.hops) == 1 else "world_twohop"


def write_world(
    world: World, pool: PoolConfig, folder: Path, tags: Tags = DEFAULT_TAGS
) -> dict[str, Path]:
    """One parquet file per split; returns their paths by split."""
    template = build_prompt_template("compact", pool, tags)
    paths = {}
    for split in SPLITS:
        rows = [
            {
                "data_source": data_source(question),
                "prompt": [{"role": "user", "content": fill(template, question.text)}],
                "ability": "fact-reasoning",
                "reward_model": {"style": "rule", "ground_truth": {"target": [question.answer]}},
                "extra_info": {
                    "split": split,
                    "index": index,
                    "question": question.text,
                    "domains": list(question.domains),
                },
            }
            for index, question in enumerate(world.knowledge.questions(split))
        ]
        paths[split] = folder / f"{split}.parquet"
        with written_whole(paths[split]) as temporary:
            pd.DataFrame(rows).to_parquet(temporary)
    return paths
