"""What a pool file may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.loading import load_pool
from verl.config.validation import ConfigError


def test_two_llms_with_one_name_are_refused() -> None:
    def llm(name: str, *aliases: str) -> LLMConfig:
        return LLMConfig(name=name, model=name, completion_price=1.0, aliases=list(aliases))

    with pytest.raises(ConfigError, match=r"'atlas' of LLM 'atlas' is already taken by 'Atlas'"):
        PoolConfig(name="mine", llms=[llm("Atlas"), llm("atlas")])
    with pytest.raises(ConfigError, match="already taken by 'Atlas'"):
        PoolConfig(name="mine", llms=[llm("Atlas", "big"), llm("Corvus", "BIG")])
    with pytest.raises(ConfigError, match="no LLM"):
        PoolConfig(name="mine", llms=[])


@pytest.mark.parametrize("price", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["completion_price", "prompt_price"])
def test_what_is_no_price_is_refused(name: str, price: float) -> None:
    with pytest.raises(ConfigError, match=rf"LLM A: a price must be .* got {price}"):
        LLMConfig("A", "a", **{"completion_price": 1.0, name: price})


def test_a_pool_file_is_validated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"embedded.*paper"):
        load_pool("nowhere")
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nllms: [{name: A, model: a, completion_price: 1, prize: 2}]\n")
    with pytest.raises(ConfigError, match="prize"):
        load_pool(path)
    path.write_text("name: mine\nllms: [{name: A, model: a}]\n")
    with pytest.raises(ConfigError, match="completion_price"):
        load_pool(path)
    for broken in (b"name: [\n  x: {", b"name: \xff\n"):
        path.write_bytes(broken)
        with pytest.raises(ConfigError, match=r"mine\.yaml is no YAML file: "):
            load_pool(path)
    path.write_text("- a list\n")
    with pytest.raises(ConfigError, match="mapping"):
        load_pool(path)
