"""``python -m examples.calculator.prepare [FOLDER]``: sums as data, and a policy at random.

The vocabulary is digits, signs and tags, so that even at random it calls now and then.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

WORDS = ("<pad>", "<end>", *"0123456789+=", "<calc>", "</calc>", "<answer>", "</answer>")


def prepare(folder: Path) -> None:
    """Writes train.parquet, validation.parquet and policy/."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = pd.DataFrame([_row(a, b) for a in range(10) for b in range(10)]).sample(
        100, random_state=0
    )
    sums[:80].to_parquet(folder / "train.parquet")
    sums[80:].to_parquet(folder / "validation.parquet")
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<pad>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"</?\w+>|."), "isolated")
    words.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<end>",
        chat_template="{% for message in messages %}{{ message['content'] }}{% endfor %}",
    ).save_pretrained(folder / "policy")
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2}
    Qwen2ForCausalLM(
        Qwen2Config(
            **shape,
            vocab_size=len(WORDS),
            num_hidden_layers=2,
            num_key_value_heads=2,
            max_position_embeddings=128,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
    ).save_pretrained(folder / "policy")


def _row(a: int, b: int) -> dict[str, object]:
    return {
        "data_source": "sums",
        "prompt": [{"role": "user", "content": f"{a}+{b}="}],
        "reward_model": {"ground_truth": {"target": [str(a + b)]}},
    }


if __name__ == "__main__":
    prepare(Path(sys.argv[1] if len(sys.argv) > 1 else "data/calculator"))
