"""The chat server and the engines without Ray, on one vLLM engine, by the ``openai`` client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from transformers import AutoTokenizer

from router_r1.inference.record import answer_record
from router_r1.inference.router import Router
from router_r1.llm_agent.observer import TrajectoryObserver
from router_r1.pool.config import PoolConfig
from router_r1.serve.app import RouterServer
from tests.integration.faults import fault
from tests.integration.serving import KEY, POOL_KEY, engine_of, idle_state, served, until
from verl.interfaces import RolloutOptions, RolloutRequest, SamplingParams
from verl.utils.generation_config import end_of_turn_ids
from verl.workers.rollout.hf_engine import HFEngine

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def server(router: Router) -> Iterator[tuple[RouterServer, str]]:
    with served(router) as running:
        yield running


@pytest.fixture
def client(server: tuple[RouterServer, str]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server[1], api_key=KEY, max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, question: str, **options: Any) -> Any:
    messages = [{"role": "user", "content": question}]
    return client.chat.completions.create(**{"model": "router-r1", "messages": messages, **options})


def test_hf_and_vllm_write_the_same_greedy_tokens(
    router: Router, cold_start_folder: Path, questions: list[str]
) -> None:
    prompts = [
        router._chat.render(router.request(question).messages).token_ids
        for question in questions[:8]
    ]
    sampling = SamplingParams(max_tokens=40, temperature=0.0, stop=("</search>", "</answer>"))

    async def generate(engine: Any) -> list[Any]:
        return await asyncio.gather(
            *(engine.generate(prompt, sampling, str(i)) for i, prompt in enumerate(prompts))
        )

    theirs = router.run(generate(engine_of(router)))
    hf = HFEngine(str(cold_start_folder), "cpu", "float32", 512)
    ours = router.run(generate(hf))
    router.run(hf.close())
    assert [o.token_ids for o in ours] == [o.token_ids for o in theirs]
    assert [o.finish_reason for o in ours] == [o.finish_reason for o in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)


def test_hf_and_vllm_stop_alike_at_every_end_id(
    router: Router, cold_start_folder: Path, questions: list[str], tmp_path: Path
) -> None:
    """With the end of a thought as a second end of turn in the generation config."""
    tokenizer = AutoTokenizer.from_pretrained(cold_start_folder)
    end = tokenizer.convert_tokens_to_ids("</think>")
    folder = tmp_path / "model"
    shutil.copytree(cold_start_folder, folder)
    listed = {"eos_token_id": [tokenizer.eos_token_id, end]}
    (folder / "generation_config.json").write_text(json.dumps(listed))
    prompt = router._chat.render(router.request(questions[0]).messages).token_ids
    sampling = SamplingParams(max_tokens=40, temperature=0.0, stop=("</search>",))
    replica = engine_of(router)._replica
    before = replica._settings
    replica._settings = replace(before, end_ids=end_of_turn_ids(str(folder), tokenizer))
    try:
        theirs = router.run(engine_of(router).generate(prompt, sampling, "s"))
    finally:
        replica._settings = before
    hf = HFEngine(str(folder), "cpu", "float32", 512)
    ours = router.run(hf.generate(prompt, sampling, "s"))
    router.run(hf.close())
    assert ours.token_ids == theirs.token_ids
    assert ours.finish_reason == theirs.finish_reason == "stop"
    assert ours.token_ids[-1] == end
    assert ours.token_ids.count(end) == 1


def test_a_cancelled_generation_leaves_the_engine(router: Router) -> None:
    async def scenario() -> tuple[int, int]:
        seen: list[int] = []
        task = asyncio.create_task(
            engine_of(router).generate(
                [300, 301], SamplingParams(max_tokens=500, temperature=1.0), "s", seen.extend
            )
        )
        while not seen:
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return len(seen), (await idle_state(router))[0]

    written, unfinished = router.run(scenario())
    assert (written < 500, unfinished) == (True, 0)


def test_an_observer_sees_all_and_changes_nothing(router: Router, questions: list[str]) -> None:
    class Notes(TrajectoryObserver):
        text = ""
        deltas = 0
        calls = 0

        def on_text(self, delta: str) -> None:
            self.text += delta
            self.deltas += 1

        def on_observation(self, block: str) -> None:
            self.text += block

        def on_call(self, name: str, query: str) -> None:
            assert name
            assert query
            self.calls += 1

    for question in questions[:6]:
        notes = Notes()
        watched = router.run(router.answer(router.request(question), notes))
        alone = router.run(router.answer(router.request(question)))
        assert watched.token_ids == alone.token_ids
        assert notes.text == watched.record.response_text
        assert notes.calls == len(watched.record.calls)
        assert notes.deltas > 2 * len(watched.record.turns), "text comes token by token"


def test_plain(client: openai.OpenAI, router: Router, questions: list[str]) -> None:
    for question in questions[:4]:
        completion = ask(client, question)
        expected = router.run(router.answer(router.request(question)))
        answer = answer_record(question, expected)
        choice = completion.choices[0]
        assert choice.message.content == answer["answer"]
        assert choice.finish_reason == "stop"
        reasoning = choice.message.reasoning_content
        assert answer["trajectory"].startswith(reasoning)
        assert "<answer>" in answer["trajectory"][len(reasoning) :]
        assert completion.usage.prompt_tokens == len(expected.prompt_ids)
        assert completion.usage.completion_tokens == sum(expected.response_mask)
        pool = completion.usage.pool
        assert (pool["cost"], pool["dollars"]) == (answer["cost"], answer["dollars"])
        assert [call["llm"] for call in completion.router["calls"]] == [
            call["llm"] for call in answer["calls"]
        ]


def test_streaming_says_the_same(client: openai.OpenAI, questions: list[str]) -> None:
    plain = ask(client, questions[0])
    chunks = list(ask(client, questions[0], stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    reasoning = [text for d in deltas if (text := getattr(d, "reasoning_content", None))]
    message = plain.choices[0].message
    assert "".join(reasoning) == message.reasoning_content
    assert len(reasoning) > 5
    assert "".join(d.content or "" for d in deltas) == message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == plain.usage.completion_tokens
    assert chunks[-1].usage.pool["cost"] == plain.usage.pool["cost"]
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_max_tokens_bounds_the_trajectory(client: openai.OpenAI, questions: list[str]) -> None:
    completion = ask(client, questions[0], max_tokens=5)
    assert completion.usage.completion_tokens == 5
    assert completion.choices[0].finish_reason == "length"
    assert completion.choices[0].message.content == ""


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["router-r1"]
    assert client.models.retrieve("router-r1").owned_by == "router-r1"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")


def test_refusals_are_the_apis_own(
    client: openai.OpenAI, server: tuple[RouterServer, str], questions: list[str]
) -> None:
    stranger = openai.OpenAI(base_url=server[1], api_key="sk-wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as bad_key:
        ask(stranger, questions[0])
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    with pytest.raises(openai.NotFoundError) as bad_model:
        ask(client, questions[0], model="gpt-4o")
    with pytest.raises(openai.BadRequestError) as too_long:
        ask(client, "Who is " + "very " * 300 + "old?")
    with pytest.raises(openai.BadRequestError) as malformed:
        ask(client, questions[0], messages=[{"role": "user", "content": 3}])
    with pytest.raises(openai.APIStatusError) as too_large:
        ask(client, "x" * (1 << 20))
    raised = (bad_key, bad_model, too_long, malformed, too_large)
    assert [(e.value.status_code, e.value.code) for e in raised] == [
        (401, "invalid_api_key"),
        (404, "model_not_found"),
        (400, "context_length_exceeded"),
        (400, "invalid_request"),
        (413, "request_entity_too_large"),
    ]
    assert "sk-wrong" not in str(bad_key.value)


def test_sixty_four_at_once(
    server: tuple[RouterServer, str], router: Router, questions: list[str]
) -> None:
    async def all_at_once() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=server[1], api_key=KEY, max_retries=0) as client:
            return await asyncio.gather(
                *(
                    client.chat.completions.create(
                        model="router-r1", messages=[{"role": "user", "content": question}]
                    )
                    for question in questions
                )
            )

    completions = asyncio.run(all_at_once())
    assert len(completions) == 64
    assert sum(c.choices[0].finish_reason == "stop" for c in completions) >= 60
    assert router.run(idle_state(router))[0] == 0
    assert server[0].metrics.in_flight == 0


def test_a_crowd_gets_the_answers_that_each_gets_alone(
    server: tuple[RouterServer, str], client: openai.OpenAI, router: Router, questions: list[str]
) -> None:
    """16 at once at temperature 0, every other streamed, and two more that leave half way."""
    crowd = questions[:16]

    def said(message: Any) -> tuple[str, str]:
        return message.reasoning_content, message.content

    alone = [said(ask(client, question).choices[0].message) for question in crowd]

    async def one(asker: openai.AsyncOpenAI, number: int, question: str) -> tuple[str, str]:
        messages: Any = [{"role": "user", "content": question}]
        shared: Any = {"model": "router-r1", "messages": messages}
        if number % 2:
            whole = await asker.chat.completions.create(**shared)
            return said(whole.choices[0].message)
        reasoning = content = ""
        async for chunk in await asker.chat.completions.create(**shared, stream=True):
            delta: Any = chunk.choices[0].delta
            reasoning += getattr(delta, "reasoning_content", None) or ""
            content += delta.content or ""
        return reasoning, content

    async def leave(asker: openai.AsyncOpenAI, question: str) -> None:
        messages: Any = [{"role": "user", "content": question}]
        stream = await asker.chat.completions.create(
            model="router-r1", messages=messages, stream=True
        )
        async for _ in stream:
            break
        await stream.close()

    async def all_at_once() -> list[tuple[str, str]]:
        async with openai.AsyncOpenAI(base_url=server[1], api_key=KEY, max_retries=0) as asker:
            answers = [asyncio.create_task(one(asker, i, q)) for i, q in enumerate(crowd)]
            await asyncio.gather(*(leave(asker, question) for question in questions[16:18]))
            return list(await asyncio.gather(*answers))

    assert asyncio.run(all_at_once()) == alone
    assert until(lambda: router.run(idle_state(router))[0] == 0)
    assert until(lambda: server[0].metrics.in_flight == 0)


def test_a_seed_repeats_the_answer_and_top_k_narrows_it(
    client: openai.OpenAI, questions: list[str]
) -> None:
    def sampled(**options: Any) -> str:
        chosen = {"temperature": 1.9, **options}
        extra = {"top_k": chosen.pop("top_k", None)}
        message = ask(client, questions[0], extra_body=extra, **chosen).choices[0].message
        return str(message.reasoning_content) + str(message.content)

    assert sampled(seed=3) == sampled(seed=3)
    assert len({sampled(seed=seed) for seed in range(4)}) > 1
    greedy = sampled(temperature=0)
    assert sampled(top_k=1) == greedy


def test_earlier_turns_reach_the_router_and_the_answer_tells(
    client: openai.OpenAI, questions: list[str]
) -> None:
    plain = ask(client, questions[0])
    assert not hasattr(plain, "warnings")
    earlier = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ann"}]
    messages = [*earlier, {"role": "user", "content": questions[0]}]
    told = ask(client, "", messages=messages, extra_body={"mirostat": 2})
    assert told.usage.prompt_tokens > plain.usage.prompt_tokens
    assert [warning.split(";")[0] for warning in told.warnings] == [
        "the router is trained on single questions",
        "'mirostat' is not known here and is ignored",
    ]
    chunks = list(ask(client, "", messages=messages, stream=True))
    assert len(chunks[-1].warnings) == 1
    with pytest.raises(openai.BadRequestError, match="min_p"):
        ask(client, questions[0], extra_body={"min_p": 0.5})


def test_a_conversation_that_is_too_long_loses_its_oldest_turns(
    client: openai.OpenAI, router: Router, questions: list[str]
) -> None:
    earlier = [
        {"role": role, "content": f"{number} " * 20}
        for number in range(20)
        for role in ("user", "assistant")
    ]
    messages = [*earlier, {"role": "user", "content": questions[0]}]
    told = ask(client, "", messages=messages)
    plain = ask(client, questions[0])
    limit = router.settings.max_start_length
    assert plain.usage.prompt_tokens < told.usage.prompt_tokens <= limit
    given, left_out = told.warnings
    assert "earlier turns as text" in given
    assert left_out.startswith("the oldest ")
    assert "of 40 earlier messages are left out" in left_out
    messages[0] = {"role": "system", "content": "brief " * 300}
    with pytest.raises(openai.BadRequestError, match="the system message and the last") as refused:
        ask(client, "", messages=messages)
    assert refused.value.code == "context_length_exceeded"
    messages = [*earlier, {"role": "user", "content": "Who is " + "very " * 300 + "old?"}]
    with pytest.raises(openai.BadRequestError, match="the question makes a prompt of"):
        ask(client, "", messages=messages)


def test_a_full_queue_says_429(router: Router, questions: list[str], served_pool: Any) -> None:
    with (
        served(router, max_concurrency=1, max_queue=1) as (server, url),
        openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client,
        ThreadPoolExecutor(2) as threads,
        fault(served_pool, "hang"),
    ):
        waiting = [threads.submit(ask, client, question) for question in questions[:2]]
        assert until(lambda: (server.metrics.in_flight, server.metrics.queued) == (1, 1))
        with pytest.raises(openai.RateLimitError) as refused:
            ask(client, questions[2])
        assert refused.value.code == "rate_limit_exceeded"
        assert all(future.result().router["calls"] for future in waiting)
        assert (server.metrics.in_flight, server.metrics.queued) == (0, 0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_everything(
    router: Router, questions: list[str], served_pool: PoolConfig, stream: bool
) -> None:
    router.run(idle_state(router))
    with served(router) as (server, url):
        before = router.run(idle_state(router))
        with fault(served_pool, "hang"):
            client = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=0.5)
            with pytest.raises(openai.APITimeoutError) if not stream else contextlib.nullcontext():
                answer = ask(client, questions[0], stream=stream)
            if stream:
                for chunk in answer:
                    if "</search>" in (getattr(chunk.choices[0].delta, "reasoning_content", "")):
                        break
                assert server.metrics.in_flight == 1
                answer.close()
            client.close()
            assert until(lambda: server.metrics.in_flight == 0, 2.0)
        assert until(lambda: router.run(idle_state(router)) == before, 2.0)
        assert 'router_r1_requests_total{status="499"} 1' in server.metrics.render()


def test_stopping_lets_requests_under_way_end(
    router: Router, questions: list[str], served_pool: PoolConfig
) -> None:
    with (
        served(router) as (server, url),
        openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client,
        ThreadPoolExecutor(1) as threads,
        fault(served_pool, "hang"),
    ):
        under_way = threads.submit(ask, client, questions[0])
        assert until(lambda: server.metrics.in_flight == 1)
        router.run(server.stop())
        assert under_way.result().choices[0].finish_reason in ("stop", "length")
        with pytest.raises(openai.APIConnectionError):
            ask(client, questions[1])


def test_a_pool_that_fails_is_counted_and_the_keys_stay_secret(
    router: Router,
    questions: list[str],
    served_pool: PoolConfig,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("DEBUG"), served(router) as (_, url):
        client = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)
        with fault(served_pool, "status_500"):
            completion = ask(client, questions[0])
        assert {call["outcome"] for call in completion.router["calls"]} == {"server_error"}
        assert completion.usage.pool["dollars"] == 0
        root = url.removesuffix("/v1")
        with urllib.request.urlopen(f"{root}/health", timeout=5) as health:
            assert json.loads(health.read()) == {"status": "ok", "in_flight": 0}
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{root}/metrics", timeout=5)
        headers = {"Authorization": f"Bearer {KEY}"}
        request = urllib.request.Request(f"{root}/metrics", headers=headers)
        with urllib.request.urlopen(request, timeout=5) as page:
            metrics = page.read().decode()
        assert 'outcome="server_error"' in metrics
        assert "router_r1_pool_dollars_total 0.0" in metrics
    shown = completion.model_dump_json() + metrics + repr(router.settings.options)
    ours = [r.getMessage() for r in caplog.records if r.name.split(".")[0] in ("router_r1", "verl")]
    assert KEY not in shown + "".join(ours)
    assert POOL_KEY not in shown + "".join(ours)


def test_sampling_is_the_clients_to_choose(router: Router, questions: list[str]) -> None:
    request = router.request(questions[0])
    hot = RolloutOptions(temperature=1.5)
    texts = {router.run(router.answer(request, options=hot)).record.response_text for _ in range(6)}
    assert len(texts) > 1


def test_a_seeded_question_samples_the_same_answer_and_the_next_another(
    router: Router, questions: list[str]
) -> None:
    def text(request: RolloutRequest, seed: int) -> str:
        hot = RolloutOptions(temperature=1.5, seed=seed)
        return router.run(router.answer(request, options=hot)).record.response_text

    first, second = router.request(questions[0]), router.request(questions[0])
    assert text(first, 3) == text(first, 3)
    assert len({text(first, 3), text(first, 4), text(second, 3), text(second, 4)}) > 1
    assert first.uid != second.uid


def test_a_request_says_what_cost_counts_by_field_or_by_the_models_name(
    told_router: Router, questions: list[str]
) -> None:
    with (
        served(told_router) as (_, url),
        openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client,
    ):
        assert client.models.list().data[0].router["cost_coe"] == 0.3
        by_name = ask(client, questions[0], model="router-r1@0.9")
        by_field = ask(client, questions[0], extra_body={"cost_coe": 0.9})
        unsaid = ask(client, questions[0])
        said = [one.router["cost_coe"] for one in (by_name, by_field, unsaid)]
        assert said == [0.9, 0.9, 0.3]
        contents = [
            told_router.request(questions[0], weight).messages[0]["content"]
            for weight in (None, 0.9)
        ]
        assert ["Cost counts 3 of" in contents[0], "Cost counts 9 of" in contents[1]] == [True] * 2
        chunks = list(ask(client, questions[0], model="router-r1@0.9", stream=True))
        assert chunks[-1].router["cost_coe"] == 0.9


def test_a_router_that_is_not_told_refuses_a_weight(
    client: openai.OpenAI, questions: list[str]
) -> None:
    assert ask(client, questions[0]).router["cost_coe"] is None
    for options in ({"model": "router-r1@0.6"}, {"extra_body": {"cost_coe": 0.6}}):
        with pytest.raises(openai.BadRequestError, match="was trained for one weight of cost"):
            ask(client, questions[0], **options)
