"""The transformers engine: where it stops, what it keeps, what it samples from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from verl.interfaces import GenerationOutput, SamplingParams
from verl.workers.rollout.errors import RolloutEngineError
from verl.workers.rollout.hf_engine import HFEngine, processed_log_probs

PROMPT = list(range(100, 130))


@pytest.fixture(scope="module")
def engine(policy_folder: Path) -> Iterator[HFEngine]:
    engine = HFEngine(str(policy_folder), "cpu", "float32", 128)
    yield engine
    asyncio.run(engine.close())


def generate(engine: HFEngine, **sampling: Any) -> GenerationOutput:
    return asyncio.run(engine.generate(PROMPT, SamplingParams(**sampling), "s"))


def test_log_probs_are_the_models_own(engine: HFEngine, policy_folder: Path) -> None:
    output = generate(engine, max_tokens=24)
    assert (len(output.token_ids), output.finish_reason) == (24, "length")
    model: Any = AutoModelForCausalLM.from_pretrained(policy_folder, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([[*PROMPT, *output.token_ids]])).logits[0, len(PROMPT) - 1 : -1]
    chosen = logits.log_softmax(-1).gather(-1, torch.tensor(output.token_ids)[:, None])[:, 0]
    assert (chosen - torch.tensor(output.log_probs)).abs().max() < 1e-4


def test_it_stops_with_the_token_that_completes_the_stop(engine: HFEngine, tokenizer: Any) -> None:
    free = generate(engine, max_tokens=20, temperature=0.0)
    texts = [tokenizer.decode(free.token_ids[: n + 1]) for n in range(20)]
    words = [tokenizer.decode([token]) for token in free.token_ids]
    stop = next(word for word in words if word.strip() and "\ufffd" not in word)[-2:]
    first = next(n for n, text in enumerate(texts) if stop in text)
    assert first < 19
    stopped = generate(engine, max_tokens=20, temperature=0.0, stop=("never", stop))
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == free.token_ids[: first + 1]


def test_an_end_of_text_token_ends_it_and_is_kept(engine: HFEngine) -> None:
    free = generate(engine, max_tokens=8, temperature=0.0)
    kept, engine._end_ids = engine._end_ids, frozenset({free.token_ids[4]})
    try:
        ended = generate(engine, max_tokens=8, temperature=0.0)
    finally:
        engine._end_ids = kept
    assert ended.finish_reason == "stop"
    assert ended.token_ids == free.token_ids[: free.token_ids.index(free.token_ids[4]) + 1]


def test_the_context_bounds_it(engine: HFEngine) -> None:
    assert len(generate(engine, max_tokens=1000).token_ids) == 128 - len(PROMPT)
    with pytest.raises(RolloutEngineError, match="no room"):
        asyncio.run(engine.generate([1] * 128, SamplingParams(max_tokens=1), "s"))


def test_generations_take_turns_and_a_cancelled_one_ends(engine: HFEngine) -> None:
    async def scenario() -> tuple[list[str], int]:
        order: list[str] = []

        async def one(name: str) -> int:
            def note(_: object) -> None:
                order.append(name)

            sampling = SamplingParams(max_tokens=90, seed=1)  # long enough: see the last assertion
            return len((await engine.generate(PROMPT, sampling, name, note)).token_ids)

        tasks = [asyncio.create_task(one(name)) for name in ("a", "b")]
        while order.count("a") < 5:
            await asyncio.sleep(0.001)
        tasks[0].cancel()
        _, length = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(length, int)
        return order, length

    order, length = asyncio.run(scenario())
    assert order.count("b") == length
    assert order.count("a") < length
    assert "b" in order[:4]


def test_on_tokens_gets_every_id_in_order(engine: HFEngine) -> None:
    seen: list[int] = []
    sampling = SamplingParams(max_tokens=12)
    output = asyncio.run(engine.generate(PROMPT, sampling, "s", seen.extend))
    assert tuple(seen) == output.token_ids


def test_sampling_filters_keep_what_they_should() -> None:
    logits = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])
    plain = processed_log_probs(logits, SamplingParams(max_tokens=1))
    torch.testing.assert_close(plain, logits.log_softmax(-1))
    hot = processed_log_probs(logits, SamplingParams(max_tokens=1, temperature=2.0))
    torch.testing.assert_close(hot, (logits / 2).log_softmax(-1))
    two = processed_log_probs(logits, SamplingParams(max_tokens=1, top_k=2)).exp()
    torch.testing.assert_close(two[:2], logits[:2].softmax(-1))
    assert two[2:].sum() == 0
    # 0.636 of the mass lies on the first, 0.870 on the first two.
    nucleus = processed_log_probs(logits, SamplingParams(max_tokens=1, top_p=0.8)).exp()
    assert [float(p) > 0 for p in nucleus] == [True, True, False, False, False]
    assert (
        processed_log_probs(logits, SamplingParams(max_tokens=1, top_p=0.01)).exp() > 0
    ).sum() == 1


def test_a_folder_without_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(RolloutEngineError, match="cannot load"):
        HFEngine(str(tmp_path), "cpu", "float32", 128)


def test_a_seed_makes_a_generation_independent_of_what_runs_beside_it(engine: HFEngine) -> None:
    async def together(seeds: list[int | None]) -> list[tuple[int, ...]]:
        calls = (
            engine.generate(PROMPT, SamplingParams(max_tokens=12, seed=seed), "s") for seed in seeds
        )
        return [output.token_ids for output in await asyncio.gather(*calls)]

    alone = {seed: generate(engine, max_tokens=12, seed=seed).token_ids for seed in (1, 2, 3)}
    assert len(set(alone.values())) == 3
    assert asyncio.run(together([3, None, 1, None, 2]))[::2] == [alone[3], alone[1], alone[2]]
