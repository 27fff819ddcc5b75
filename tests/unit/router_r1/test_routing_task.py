"""Prompts follow the pool of the run, whatever pool the data files were written for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router_r1.llm_agent.prompt import build_prompt_template, fill
from router_r1.pool.config import LLMConfig
from router_r1.pool.loading import load_pool
from router_r1.task import RoutingTask
from verl.config.validation import ConfigError
from verl.trainer.launch import load_task_config
from verl.trainer.ppo.alarms import Alarms
from verl.utils.dataset import PromptDataset

ROW = {
    "prompt": [{"role": "user", "content": "as the file has it"}],
    "extra_info": {"question": "who wrote {this}?", "index": 3},
}


def task(*overrides: str) -> RoutingTask:
    task_class, config = load_task_config(list(overrides))
    made = task_class(config)
    assert isinstance(made, RoutingTask)
    return made


@pytest.mark.parametrize(
    ("recipe", "pool", "style"),
    [
        ("paper_qwen", "paper", "qwen"),
        ("paper_llama", "paper", "llama"),
        ("quickstart", "embedded", "compact"),
        ("quickstart_tiers", "embedded_tiers", "compact"),
    ],
)
def test_a_recipe_writes_its_prompts_for_its_pool(recipe: str, pool: str, style: str) -> None:
    template = build_prompt_template(style, load_pool(pool))
    messages = task(f"recipe={recipe}").messages(ROW)
    assert messages == [{"role": "user", "content": fill(template, "who wrote {this}?")}]


def test_the_routing_tag_is_a_setting_that_the_prompt_names() -> None:
    for tag, other in (("search", "route"), ("route", "search")):
        (message,) = task("recipe=paper_qwen", f"route_tag={tag}").messages(ROW)
        assert f"<{tag}> LLM-Name:Your-Query </{tag}>" in message["content"]
        assert f"<{other}>" not in message["content"]
    with pytest.raises(ConfigError, match=r"route_tag='ask'.*search, route"):
        task("recipe=paper_qwen", "route_tag=ask")


def test_another_pool_needs_no_other_edit() -> None:
    (message,) = task("recipe=paper_qwen", "pool=local").messages(ROW)
    assert "- Qwen2.5-32B: The strongest" in message["content"]
    assert "Mixtral" not in message["content"]


def test_an_llm_unseen_in_training_is_offered_once_it_is_in_the_pool() -> None:
    paper = task("recipe=paper_qwen")
    added = replace(
        paper.config.pool,
        name_matching="exact",
        llms=[
            *paper.config.pool.llms,
            LLMConfig("Unseen-1B", "u/unseen", "A newcomer.", completion_price=0.1),
        ],
    )
    unseen = RoutingTask(replace(paper.config, pool=added))
    assert "- Unseen-1B: A newcomer." in unseen.messages(ROW)[0]["content"]
    assert "Unseen-1B" not in paper.messages(ROW)[0]["content"]
    found = added.resolve("unseen-1b")
    assert found is not None
    assert found.model == "u/unseen"


@pytest.mark.parametrize(
    ("overrides", "row"),
    [
        (["recipe=paper_qwen", "prompt_style=null"], ROW),
        (["recipe=paper_qwen"], {**ROW, "extra_info": {"index": 3}}),
        (["recipe=paper_qwen"], {"prompt": ROW["prompt"]}),
    ],
)
def test_the_files_prompts_are_kept_where_asked_or_needed(
    overrides: list[str], row: dict[str, Any]
) -> None:
    assert task(*overrides).messages(row) == ROW["prompt"]


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"prompt_style='poem'.*qwen, llama, compact"):
        task("recipe=paper_qwen", "prompt_style=poem")


def test_rollouts_are_asked_with_those_prompts(tmp_path: Path) -> None:
    quickstart = task("recipe=quickstart", f"world.folder={tmp_path}")
    quickstart.surroundings().check()
    dataset = PromptDataset([f"{tmp_path}/test.parquet"], "prompt", 5, quickstart.messages)
    for row in range(5):
        assert dataset.request(row, "u").messages == [dict(dataset.rows[row]["prompt"][0])]


def test_reports_state_the_scale_of_costs_once_it_stays() -> None:
    for recipe, scale in (
        ("quickstart", None),
        ("quickstart_tiers", {"low": 1.05, "high": 1.95}),
    ):
        made = task(f"recipe={recipe}", "reward.cost_window=2")
        reports = made.reports()
        assert reports.facts()["cost_scale"] is None
        made.reward().load_state_dict({"normalizer": {"roots": [1.0, 2.0], "window": 2}})
        assert reports.facts()["cost_scale"] == (scale and pytest.approx(scale))


def test_reports_state_what_the_reward_weighs() -> None:
    settings = ["reward.latency_coe=0.2", "reward.cost_unit=dollars", "reward.form=multiplicative"]
    made = task("recipe=quickstart_tiers", "reward.cost_window=1", *settings)
    reports = made.reports()
    assert reports.facts()["latency_scale"] is None
    state = {"roots": [2.0], "window": 1}
    made.reward().load_state_dict({"normalizer": state, "latency_normalizer": state})
    facts = reports.facts()
    assert facts["latency_scale"] == {"low": 2.0, "high": 2.0}
    assert (facts["latency_coe"], facts["cost_unit"]) == (0.2, "dollars")
    assert facts["reward_form"] == "multiplicative"


def test_template_options_reach_the_rollouts(tokenizer: Any) -> None:
    """The embedded policy's template reads none, so that it refuses one shows that it got it."""
    given = task("recipe=quickstart", "data.apply_chat_template_kwargs.enable_thinking=false")
    with pytest.raises(ConfigError, match=r"apply_chat_template_kwargs\.enable_thinking"):
        given.agent(None, tokenizer)  # type: ignore[arg-type]


def test_rules_come_from_the_command_line_and_the_task() -> None:
    routing = task(
        "recipe=quickstart",
        "trainer.alarms.rules=[{metric: reward/route_cnt, below: 0.5}]",
        "trainer.alarms.early_steps=1",
        "trainer.alarms.window=1",
    )
    alarms = Alarms(routing.config.trainer.alarms, routing.reports().alarm_rules())
    assert not alarms.check(1, {"reward/route_cnt": 1.5, "reward/format_failure": 0.0})
    assert not alarms.check(2, {"reward/route_cnt": 5.0, "reward/format_failure": 0.1})
    (warning,) = alarms.check(3, {"reward/route_cnt": 0.4, "reward/format_failure": 0.1})
    assert "reward/route_cnt has left its normal range at step 3" in warning
    (warning,) = alarms.check(4, {"reward/route_cnt": 0.4, "reward/format_failure": 0.5})
    assert "reward/format_failure" in warning


def test_the_first_policys_size_is_known_before_it_is_made() -> None:
    quickstart = task("recipe=quickstart")
    config, made = quickstart.config, quickstart.surroundings().first_policy_config()
    assert (made.hidden_size, made.num_hidden_layers) == (256, 2)
    config.actor_rollout_ref.model.path = f"{config.cold_start.folder}/../cold_start"
    assert quickstart.surroundings().first_policy_config() is not None, (
        "the same folder, said otherwise"
    )
    assert task("recipe=paper_qwen").surroundings().first_policy_config() is None
