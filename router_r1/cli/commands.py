"""The table of subcommands: what each runs, what its help says, what completes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A subcommand; an example is a command line, without ``router-r1``, and what it does."""

    name: str
    summary: str
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ModuleCommand(Command):
    """Runs ``main``, a ``module:function`` that takes the arguments. ``parser`` is one that takes
    ``prog`` and returns the argument parser; its module imports nothing that takes seconds."""

    parser: str
    main: str


@dataclass(frozen=True)
class ScriptCommand(Command):
    """Runs a script of the repository, which first installs what is missing: ``script`` is its file
    and first arguments, ``overrides`` are the configuration keys used most; they and the options
    come with what each does."""

    script: tuple[str, ...]
    overrides: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...] = ()


_WHAT_TO_TRAIN = (
    ("recipe", "one of these; default: quickstart, with a GPU paper_qwen"),
    ("pool", "the LLMs: a name under configs/pool"),
    ("api_base", "OpenAI-compatible endpoint of the pool"),
    ("cost_coe", "weight of the calls' cost in the reward, 0 to 1"),
    ("pool.budget_usd", "training stops before it spends more"),
    ("actor_rollout_ref.model.path", "the policy to start from: folder or hub name"),
    ("data.train_files", "parquet files of questions"),
    ("trainer.experiment_name", "the run's name: outputs/<name>"),
    ("trainer.seed", "of everything drawn"),
    ("trainer.total_training_steps", "steps to train; unset: all of the epochs"),
    ("trainer.resume", "auto, never, or the folder of a checkpoint to go on from"),
    ("trainer.logger", "list of console, jsonl, tensorboard, wandb"),
)
_WHAT_TO_SCORE = (
    ("recipe", "one of these; default: quickstart, with a GPU paper_qwen"),
    ("trainer.experiment_name", "the run whose newest checkpoint is scored"),
    ("evaluation.model_path", "another checkpoint, or a model of the hub"),
    ("evaluation.files", "parquet files of questions"),
    ("evaluation.n_samples", "answers to each question"),
    ("evaluation.limit", "only so many questions"),
    ("actor_rollout_ref.rollout.val.temperature", "0 is greedy"),
    ("pool", "the LLMs: a name under configs/pool"),
    ("api_base", "OpenAI-compatible endpoint of the pool"),
)

COMMANDS: tuple[Command, ...] = (
    ScriptCommand(
        "train",
        "train a router with PPO or GRPO",
        (
            ("train", "the quickstart; with a GPU the paper's recipe"),
            ("train recipe=quickstart_grpo", "another recipe"),
            ("train cost_coe=0.9 trainer.seed=1", "let the cost of calls count; another seed"),
        ),
        script=("train.sh",),
        options=(("--check", "show what the run needs and what there is"),),
        overrides=_WHAT_TO_TRAIN,
    ),
    ScriptCommand(
        "test",
        "score a trained router on its test files, and report",
        (
            ("test", "the newest checkpoint of the quickstart"),
            ("test evaluation.n_samples=4 actor_rollout_ref.rollout.val.temperature=1.0", "avg@4"),
        ),
        script=("test.sh",),
        overrides=_WHAT_TO_SCORE,
    ),
    ModuleCommand(
        "ask",
        "ask a trained router, and watch it think and call",
        (
            ("ask", "the newest trained router answers an example"),
            ('ask --question "…" --model_path FOLDER --json', "one JSON object"),
            ("ask --interactive", "at a prompt"),
        ),
        parser="router_r1.inference.arguments:asking_parser",
        main="router_r1.inference.__main__:main",
    ),
    ModuleCommand(
        "serve",
        "serve a trained router: a chat page, and an OpenAI-compatible API",
        (("serve", "the newest trained router on http://127.0.0.1:8000"),),
        parser="router_r1.serve.config:serving_parser",
        main="router_r1.serve.__main__:main",
    ),
    ModuleCommand(
        "compare",
        "compare routers and baselines on the same questions",
        (
            ("compare", "the quickstart's evaluation with every baseline"),
            ("compare --router untrained=FOLDER", "a further evaluation"),
            ("compare --outcomes TABLE", "baselines on recorded outcomes, without a call"),
        ),
        parser="router_r1.evaluation.compare_options:comparison_parser",
        main="router_r1.evaluation.compare:main",
    ),
    ModuleCommand(
        "report",
        "write the page of an evaluation or a run, or follow a run while it trains",
        (
            ("report outputs/quickstart/eval", "report.html from what `test` left there"),
            ("report outputs/quickstart", "the run's validations side by side"),
            ("report --watch outputs/quickstart", "a local page that follows the run"),
        ),
        parser="router_r1.evaluation.report.__main__:report_parser",
        main="router_r1.evaluation.report.__main__:main",
    ),
    ModuleCommand(
        "pool",
        "check a pool of LLMs, describe its members, export its recordings",
        (
            ("pool check embedded", "one tiny call to each LLM: latency, cost"),
            ("pool describe mine --output configs/pool/mine2.yaml", "draft descriptors"),
            ("pool export calls.sqlite calls.parquet", "a recording as a table"),
        ),
        parser="router_r1.pool.command:pool_parser",
        main="router_r1.pool.command:main",
    ),
    ModuleCommand(
        "data",
        "prepare questions of QA datasets for training and scoring",
        (
            (
                "data train --data_sources nq,hotpotqa --model qwen",
                "7000 rows of each to learn from",
            ),
            ("data test --data_sources nq,hotpotqa --model qwen", "500 of each, for `test`"),
        ),
        parser="data_process.command:data_parser",
        main="data_process.command:main",
    ),
    ScriptCommand(
        "check",
        "show what a run needs and what there is; nothing starts",
        (
            ("check recipe=paper_qwen", "this machine"),
            ("check recipe=paper_qwen --gpus 4x80,ram=256", "another: GPUs a node x GiB, memory"),
        ),
        script=("train.sh", "--check"),
        options=(("--gpus 4x80[,ram=512]", "the machine meant, where it is not this one"),),
        overrides=_WHAT_TO_TRAIN,
    ),
)
