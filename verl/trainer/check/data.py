"""Data files, tokenizer and chat template of a run."""

from __future__ import annotations

from pathlib import Path

from verl.config.ppo import PPOConfig
from verl.config.validation import ConfigError
from verl.task import Task
from verl.utils.checklist import CheckLine, Verdict
from verl.utils.dataset import DataError, PromptDataset, load_tokenizer
from verl.utils.hub import hub_answers

_MODEL_KEY = "change actor_rollout_ref.model.path"


def load_rows(config: PPOConfig, task: Task) -> tuple[list[CheckLine], dict[str, PromptDataset]]:
    """A line for the training and one for the validation files; the sets that can be read.

    Returns:
        The lines, and the sets by "train" and "validation"; what cannot be read is left out.
    """
    data = config.data
    lines, sets = [], {}
    for name, files, limit, need in (
        ("train", data.train_files, data.train_data_num, data.train_batch_size),
        ("validation", data.val_files, data.val_data_num, 1),
    ):
        key = "data.train_files" if name == "train" else "data.val_files"
        subject, needed = f"{name} rows", f"{need} or more"
        try:
            rows = PromptDataset(files, data.prompt_key, limit, task.messages, task.check_row)
        except DataError as error:
            advice = f"prepare the file, or change {key}"
            lines.append(CheckLine(subject, Verdict.NOT_OK, str(error), needed, advice))
            continue
        sets[name] = rows
        verdict = Verdict.OK if len(rows) >= need else Verdict.NOT_OK
        advice = "" if verdict is Verdict.OK else f"change {key} or data.train_batch_size"
        lines.append(CheckLine(subject, verdict, str(len(rows)), needed, advice))
    return lines, sets


def tokenizer_lines(
    config: PPOConfig, sets: dict[str, PromptDataset], policy_is_made: bool
) -> list[CheckLine]:
    """Tokenizer with its chat template, and whether every prompt is short enough.

    Args:
        sets: see :func:`load_rows`.
        policy_is_made: the run itself makes the model and its tokenizer, if they are missing.
    """
    path = config.actor_rollout_ref.model.path
    subject = "tokenizer and chat template"
    local_only = policy_is_made or Path(path).is_dir() or not hub_answers()
    try:
        tokenizer = load_tokenizer(path, local_only)
    except ConfigError as error:
        if policy_is_made:
            return [CheckLine(subject, Verdict.OK, f"{path}: made by the run")]
        if local_only and not Path(path).is_dir():
            found = f"{path} is not on this machine, and no hub answers"
            advice = "download the model, or change actor_rollout_ref.model.path"
            return [CheckLine(subject, Verdict.UNKNOWN, found, advice=advice)]
        return [CheckLine(subject, Verdict.NOT_OK, str(error), advice=_MODEL_KEY)]
    except DataError as error:
        return [CheckLine(subject, Verdict.NOT_OK, str(error), advice=_MODEL_KEY)]
    lines = [CheckLine(subject, Verdict.OK, path)]
    limit = config.data.max_start_length
    for name, rows in sets.items():
        try:
            rows.check_lengths(tokenizer, limit, config.data.apply_chat_template_kwargs)
        except DataError as error:
            lines.append(
                CheckLine(
                    f"{name} prompts",
                    Verdict.NOT_OK,
                    str(error),
                    f"{limit} tokens at most",
                    "change data.max_start_length, or drop these rows",
                )
            )
        else:
            found = f"all of {len(rows)} are short enough"
            lines.append(CheckLine(f"{name} prompts", Verdict.OK, found, f"{limit} tokens at most"))
    return lines
