"""The memory model behind ``train.sh --check``."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from verl.config.model import LoraConfig
from verl.config.ppo import PPOConfig
from verl.trainer.check.activations import ForwardPass
from verl.trainer.check.gpu_memory import CONTEXTS, engine_phase, gpu_phases, kv_cache_bytes
from verl.trainer.check.host_memory import ENGINE_PROCESSES, MIB, RANK_PROCESS, host_phase
from verl.trainer.check.memory_lines import (
    disk_line,
    gpu_lines,
    memory_lines,
    saves,
    shm_line,
)
from verl.trainer.check.model_shape import ModelConfigError, ModelShape, load_model_shape, measure
from verl.trainer.check.models import RoleModel, Workload, load_models
from verl.trainer.check.phases import Part, Phase
from verl.trainer.launch import load_task_config
from verl.trainer.machine import Machine
from verl.utils.checklist import GIB, CheckLine, Verdict, compare_bytes, gib

ON_GPU = (
    "actor_rollout_ref.actor.fsdp_config.param_offload=false",
    "actor_rollout_ref.actor.fsdp_config.optimizer_offload=false",
    "actor_rollout_ref.ref.fsdp_config.param_offload=false",
    "critic.fsdp_config.param_offload=false",
    "critic.fsdp_config.optimizer_offload=false",
)
# Proportional set sizes, the peak of each group of processes and of all at once, MiB: ten steps of
# the quickstart on two cores, sampled every second, without the simulated pool's server. The
# longest trajectory had 144 tokens.
MEASURED = {"ranks": 1609, "engine": 3236, "all": 5880}
MEASURED_LENGTH = ("data.max_prompt_length=144", "data.max_start_length=128")


@functools.cache
def load(*overrides: str) -> PPOConfig:
    config: PPOConfig = load_task_config(list(overrides))[1]
    return config


def phases(gpu_gib: float, *overrides: str) -> dict[str, Phase]:
    config = load("recipe=paper_qwen", *overrides)
    found = gpu_phases(config, load_models(config), gpu_gib * GIB)
    return {phase.name: phase for phase in found}


def lines_on(machine: str, *overrides: str) -> dict[str, CheckLine]:
    config = load("recipe=paper_qwen", *overrides)
    lines = gpu_lines(config, load_models(config), Machine.parse(machine))
    return {line.subject: line for line in lines}


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("Qwen/Qwen2.5-3B-Instruct", 3_085_938_688),
        ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824),
    ],
)
def test_the_recipes_models_are_known_without_a_hub(
    path: str, parameters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verl.trainer.check.model_shape.hub_answers", lambda: False)
    assert load_model_shape(path).parameters == parameters
    with pytest.raises(ModelConfigError, match="no hub answers"):
        load_model_shape("nobody/no-such-model")


def test_a_folder_without_config_is_named(tmp_path: Any) -> None:
    with pytest.raises(ModelConfigError, match=r"no readable config\.json"):
        load_model_shape(str(tmp_path))


def test_a_critic_has_no_output_layer() -> None:
    def shape(tied: bool) -> ModelShape:
        config = AutoConfig.for_model(
            "llama",
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=1000,
            tie_word_embeddings=tied,
        )
        return measure(config)

    tied, untied = shape(True), shape(False)
    assert untied.parameters - tied.parameters == 64_000
    assert untied.backbone == tied.backbone == tied.parameters
    assert untied.key_value == 32
    # Two embeddings' worth lie outside the layers, and the last norm.
    assert untied.outside_layers == 2 * 64_000 + 64
    assert untied.layer * 2 + untied.outside_layers == untied.parameters


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_layers_keep_is_what_autograd_saves(family: str, dtype: torch.dtype) -> None:
    config = AutoConfig.for_model(
        family,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        vocab_size=64,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(dtype)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in weights:
            saved[address] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(input_ids=torch.zeros(1, 256, dtype=torch.int64), use_cache=False)
    measured = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    forward = ForwardPass(measure(config), 256, dtype.itemsize, head_chunk=0)
    without_gradients = forward.for_update(False) - 256 * dtype.itemsize * (3 * 512 + 4 * 128)
    assert without_gradients == pytest.approx(measured, rel=0.2)


def test_a_case_by_hand() -> None:
    """A billion parameters in bfloat16 on four ranks, nothing offloaded, 1000 tokens at a time."""
    shape = ModelShape(
        parameters=1_000_000_000,
        layer=40_000_000,
        outside_layers=200_000_000,
        largest=200_000_000,
        head=0,
        hidden=1000,
        intermediate=4000,
        layers=20,
        vocabulary=200_000,
        key_value=500,
    )
    config = load("recipe=paper_qwen", *ON_GPU)
    work = Workload(update_tokens=1000, scoring_tokens=1000, key="tokens")
    actor = RoleModel(
        "actor", shape, shape.parameters, 2, 500, True, False, True, work, "actor.offload"
    )
    update, scoring, publish, awake = gpu_phases(config, [actor], 80 * GIB)
    resting = 4e9 / 4 + 8e9 / 4  # masters, Adam
    gathered = 2 * (2 * 40e6 + 200e6)
    inputs = 20 * 2 * 1000 * 1000
    head = 500 * 200_000 * (3 * 4 + 2) + (4 + 2) * 200_000 * 1000 + 2 * 2 * 1000 * 1000
    gradients = 2 * (40e6 + 200e6) + 2 * 4 * 40e6 + 4e9 / 4
    assert update.size == pytest.approx(
        CONTEXTS + resting + 1.1 * (gathered + inputs + head) + gradients
    )
    scored = 500 * 200_000 * (2 * 4 + 2) + 2 * 1000 * 1000
    assert scoring.size == pytest.approx(CONTEXTS + resting + 1.1 * (gathered + scored))
    weights, buckets, largest = 2e9, 2 * 512 * 1024**2, 2 * 2 * 200e6
    assert publish.size == pytest.approx(CONTEXTS + resting + weights + buckets + largest)
    assert awake.size == pytest.approx(CONTEXTS + resting + 0.6 * 80 * GIB)
    # Keys and values of 20 layers, 500 wide, two bytes each.
    assert kv_cache_bytes(config, actor) == 2 * 20 * 500 * 2


LORA = ("actor_rollout_ref.model.lora.rank=16",)


def test_adapters_are_counted_as_peft_makes_them() -> None:
    import peft

    config = AutoConfig.for_model(
        "qwen2",
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=1000,
        tie_word_embeddings=False,
    )
    for lora in (
        LoraConfig(rank=8),
        LoraConfig(rank=4, target_modules=["q_proj", "mlp.up_proj"]),
    ):
        names: Any = lora.target_modules
        adapted = peft.get_peft_model(
            AutoModelForCausalLM.from_config(config),
            peft.LoraConfig(r=lora.rank, target_modules=names if len(names) > 1 else names[0]),
        )
        assert measure(config).adapters(lora) == adapted.get_nb_trainable_parameters()[0]
    assert measure(config).adapters(LoraConfig()) == 0


def test_with_adapters_only_they_have_gradients_and_moments_and_no_reference_is_built() -> None:
    kl = ("algorithm.use_kl_in_reward=true", *ON_GPU)
    config = load("recipe=paper_qwen", *kl, *LORA)
    actor, critic = load_models(config)
    assert 0.005 < actor.adapters / actor.parameters < 0.02
    assert (actor.trainable, critic.trainable) == (actor.adapters, critic.adapters)
    full, adapted = phases(80, *kl), phases(80, *kl, *LORA)
    shards = {p.name: p.size for p in adapted["engine awake"].parts}["actor's shards"]
    assert shards == (4 * actor.parameters + (4 + 8) * actor.adapters) / 4
    gradients = {p.name: p.size for p in adapted["update (actor)"].parts}["gradients"]
    layer = actor.adapters // 36
    assert gradients == 2 * layer + 2 * 4 * layer + 4 * actor.adapters // 4
    assert adapted["update (actor)"].size < full["update (actor)"].size - 10 * GIB
    assert host_phase(config, [actor, critic], "cuda").size < 70 * GIB


def test_adapters_take_little_disk_unless_they_are_merged() -> None:
    described = Machine.parse("4x80")

    def needed(*overrides: str) -> str:
        config = load("recipe=paper_qwen", *LORA, *overrides)
        return disk_line(config, load_models(config), 15, described).needed

    assert needed("trainer.save_hf=never") == "0.7 GiB (1 x 0.7 GiB)"
    assert needed("trainer.save_hf=always") == "23.9 GiB (1 x 23.9 GiB)"


def test_the_papers_recipes_fit_on_four_gpus_of_80() -> None:
    for recipe in ("paper_qwen", "paper_llama"):
        lines = lines_on("4x80", f"recipe={recipe}")
        assert {line.verdict for line in lines.values()} == {Verdict.OK}
        assert "fits" in lines["GPU memory: update (actor)"].found


def test_on_24_gib_the_tightest_phase_and_its_key_are_named() -> None:
    lines = lines_on("4x24")
    assert lines["tightest phase"].found.startswith("engine awake: 73%")
    assert "rollout.gpu_memory_utilization" in lines["tightest phase"].advice


def test_without_offloading_24_gib_are_not_enough() -> None:
    lines = lines_on("4x24", *ON_GPU)
    update, awake = lines["GPU memory: update (actor)"], lines["GPU memory: engine awake"]
    assert update.verdict is awake.verdict is Verdict.NOT_OK
    for key in ("actor_rollout_ref.actor.fsdp_config", "ppo_max_token_len_per_gpu"):
        assert key in update.advice
    assert "rollout.gpu_memory_utilization" in awake.advice
    assert {line.verdict for line in lines_on("4x80", *ON_GPU).values()} == {Verdict.OK}


def test_too_few_gpus_are_named() -> None:
    line = lines_on("2x80")["GPUs of a node"]
    assert (line.verdict, line.found, line.needed) == (Verdict.NOT_OK, "2", "4")
    assert "trainer.n_gpus_per_node" in line.advice


@pytest.mark.parametrize(
    ("phase", "override"),
    [
        ("update (actor)", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=8192"),
        ("update (critic)", "critic.ppo_max_token_len_per_gpu=8192"),
        ("update (actor)", "actor_rollout_ref.model.logits_chunk_tokens=1024"),
        ("scoring", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=8192"),
        ("publish", "actor_rollout_ref.rollout.tensor_model_parallel_size=2"),
        ("engine awake", "actor_rollout_ref.rollout.gpu_memory_utilization=0.5"),
        ("update (actor)", "trainer.nnodes=2"),
        ("engine awake", "critic.fsdp_config.param_offload=true"),
    ],
)
def test_each_key_lowers_its_phase(phase: str, override: str) -> None:
    assert phases(80, *ON_GPU, override)[phase].size < phases(80, *ON_GPU)[phase].size


@pytest.mark.parametrize(
    ("phase", "override"),
    [
        (
            "update (actor)",
            "actor_rollout_ref.model.enable_gradient_checkpointing=false",
        ),
        ("update (actor)", "actor_rollout_ref.rollout.free_cache_engine=false"),
        ("update (critic)", "actor_rollout_ref.rollout.free_cache_engine=false"),
        ("scoring", "actor_rollout_ref.rollout.free_cache_engine=false"),
    ],
)
def test_each_key_raises_its_phase(phase: str, override: str) -> None:
    assert phases(80, override)[phase].size > phases(80)[phase].size + GIB


def test_grpo_needs_no_critic() -> None:
    grpo = ("algorithm.adv_estimator=grpo", "actor_rollout_ref.rollout.n_agent=8")
    assert "update (critic)" not in phases(80, *grpo)


def test_an_engine_without_room_for_its_weights_is_refused() -> None:
    config = load("recipe=paper_qwen", "actor_rollout_ref.rollout.gpu_memory_utilization=0.1")
    models = load_models(config)
    line = engine_phase(config, models[0]).line("GPU memory", 0.1 * 48 * GIB)
    assert line.verdict is Verdict.NOT_OK
    assert "tensor_model_parallel_size" in line.advice


def test_offloaded_models_are_in_main_memory() -> None:
    def host(*overrides: str) -> float:
        config = load("recipe=paper_qwen", *overrides)
        return host_phase(config, load_models(config), "cuda").size

    # Of three models of 3.09e9 parameters, pinned masters; Adam of two; gradients of one.
    kept = (3 * 1.46 * 4 + 2 * 8 + 1.46 * 4) * 3_085_938_688
    assert host() - host(*ON_GPU) == pytest.approx(kept)
    assert host("trainer.nnodes=2") < host()


def quickstart_host(*overrides: str) -> Phase:
    task_class, config = load_task_config(["recipe=quickstart", *overrides])
    models = load_models(config, task_class(config).surroundings().first_policy_config())
    return host_phase(config, models, "cpu")


def test_the_quickstarts_figures_are_near_what_was_measured() -> None:
    phase = quickstart_host(*MEASURED_LENGTH)
    size = {part.name: part.size for part in phase.parts}
    figures = {
        "ranks": 2 * RANK_PROCESS + size["models"] + size["activations"],
        "engine": ENGINE_PROCESSES + size["engine's weights"] + size["engine's KV cache"],
        "all": phase.size,
    }
    assert {name: figure / MIB for name, figure in figures.items()} == pytest.approx(
        MEASURED, rel=0.25
    )
    # What a user sees takes every trajectory at its full length.
    shown = quickstart_host().size / MIB
    assert MEASURED["all"] < shown < 1.25 * MEASURED["all"]


def test_a_batch_that_is_smaller_than_the_limit_counts() -> None:
    config = load(
        "recipe=paper_qwen",
        "data.train_batch_size=4",
        "data.max_prompt_length=2048",
        "actor_rollout_ref.actor.ppo_mini_batch_size=4",
        "critic.ppo_mini_batch_size=4",
    )
    small = config.actor_rollout_ref.actor
    work = Workload.of(config, small, "actor_rollout_ref.actor")
    assert (work.update_tokens, work.scoring_tokens) == (2048, 2048)
    fixed = replace(small, use_dynamic_bsz=False, ppo_mini_batch_size=32)
    work = Workload.of(config, fixed, "actor_rollout_ref.actor")
    assert work.update_tokens == 8 * 2048
    assert work.key == "actor_rollout_ref.actor.ppo_micro_batch_size"


@pytest.mark.parametrize(
    ("save_freq", "steps", "expected"), [(15, 225, 15), (15, 230, 16), (-1, 40, 1), (300, 225, 1)]
)
def test_saves_are_counted(save_freq: int, steps: int, expected: int) -> None:
    config = load("recipe=paper_qwen", f"trainer.save_freq={save_freq}")
    assert saves(config, steps) == expected


def test_of_a_described_machine_disk_and_memory_are_not_guessed() -> None:
    config = load("recipe=paper_qwen")
    models = load_models(config)
    lines = memory_lines(config, models, "cuda", Machine.parse("4x80"), 225)
    unknown = {line.subject: line for line in lines if line.verdict is Verdict.UNKNOWN}
    disk = f"disk for {config.trainer.default_local_dir}"
    assert set(unknown) == {"main memory: training", disk, "/dev/shm"}
    assert unknown[disk].needed == "368 GiB (4 x 92.0 GiB)"
    config.trainer.save_hf = "last"
    (exported_once,) = [
        line
        for line in memory_lines(config, models, "cuda", Machine.parse("4x80"), 225)
        if line.subject == disk
    ]
    assert exported_once.needed == "299 GiB (4 x 69.0 GiB)"
    (host,) = [
        line
        for line in memory_lines(config, models, "cuda", Machine.parse("4x80,ram=128"), 225)
        if line.subject == "main memory: training"
    ]
    assert host.verdict is Verdict.NOT_OK


def test_a_small_dev_shm_breaks_gpu_runs_only() -> None:
    docker = Machine(described=False, gpus=(), ram_bytes=None, shm_bytes=64 * 1024.0**2)
    assert shm_line("cuda", docker).verdict is Verdict.NOT_OK
    assert "--shm-size" in shm_line("cuda", docker).advice
    assert shm_line("cpu", docker).verdict is Verdict.UNKNOWN


def test_an_estimate_close_to_what_is_there_is_left_open() -> None:
    def verdict(need: float, tolerance: float = 1.0) -> Verdict:
        estimate = Phase("x", (Part("x", need),))
        return estimate.line("memory", 100.0, tolerance).verdict

    exact = Phase("x", (Part("x", 100.0, exact=True),))
    assert exact.line("memory", 100.0).verdict is Verdict.OK
    assert compare_bytes("disk", 100.0, 101.0, "less").verdict is Verdict.NOT_OK
    assert [verdict(80), verdict(81), verdict(100), verdict(101)] == [
        Verdict.OK,
        Verdict.UNKNOWN,
        Verdict.UNKNOWN,
        Verdict.NOT_OK,
    ]
    assert [verdict(125, 1.25), verdict(126, 1.25)] == [Verdict.UNKNOWN, Verdict.NOT_OK]


def test_the_largest_part_is_named_first() -> None:
    phase = Phase("rest", (Part("a", 2.0 * GIB, "key.a"), Part("b", 5.0 * GIB, "key.b")))
    line = phase.line("GPU memory", 4.0 * GIB)
    assert line.needed == "7.0 GiB: b 5.0, a 2.0"
    assert line.advice == "change key.b, key.a"
    assert (gib(155.4 * GIB), gib(12 * 1024**2)) == ("155 GiB", "12 MiB")
