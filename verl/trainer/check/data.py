"""Data files, tokenizer and chat template of a run."""

from __future__ import annotations

from pathlib import Path

from verl.config.ppo import PPOConfig
from verl.config.validation import ConfigError
from verl.task import Task
from verl.utils.checklist import CheckLine, Verdict, decide
from verl.utils.dataset import DataError, PromptDataset, load_tokenizer
from verl.utils.hub import hub_answers

_MODEL_KEY = "change actor_rollout_ref.model.path"


def load_rows(config: PPOConfig, task: Task) -> tuple[list[CheckLine], dict[str, PromptDataset]]:
    """A line for the training and one for the validation files; the sets that can be read, by
    "train" and "validation"."""
    data = config.data
    lines, sets = [], {}
    for name, key, files, limit, need in (
        ("train", "data.train_files", data.train_files, data.train_data_num, data.train_batch_size),
        ("validation", "data.val_files", data.val_files, data.val_data_num, 1),
    ):
        subject, needed = f"{name} rows", f"{need} or more"
        try:
            rows = PromptDataset(files, data.prompt_key, limit, task.messages, task.check_row)
        except DataError as error:
            advice = f"prepare the file, or change {key}"
            lines.append(decide(False, subject, str(error), needed, advice))
            continue
        sets[name] = rows
        advice = f"change {key} or data.train_batch_size"
        lines.append(decide(len(rows) >= need, subject, str(len(rows)), needed, advice))
    return lines, sets


def tokenizer_lines(
    config: PPOConfig, sets: dict[str, PromptDataset], policy_is_made: bool
) -> list[CheckLine]:
    """Tokenizer with its chat template, and whether every prompt of ``sets`` is short enough.

    Args:
        policy_is_made: the run itself makes the model and its tokenizer, if they are missing.
    """
    path = config.actor_rollout_ref.model.path
    subject = "tokenizer and chat template"
    is_folder = Path(path).is_dir()
    local_only = policy_is_made or is_folder or not hub_answers()
    try:
        tokenizer = load_tokenizer(path, local_only)
    except (ConfigError, DataError) as error:
        is_missing = isinstance(error, ConfigError)
        if is_missing and policy_is_made:
            return [CheckLine(subject, Verdict.OK, f"{path}: made by the run")]
        if is_missing and local_only and not is_folder:
            found = f"{path} is not on this machine, and no hub answers"
            advice = f"download the model, or {_MODEL_KEY}"
            return [CheckLine(subject, Verdict.UNKNOWN, found, advice=advice)]
        return [decide(False, subject, str(error), advice=_MODEL_KEY)]
    lines = [CheckLine(subject, Verdict.OK, path)]
    limit = config.data.max_start_length
    for name, rows in sets.items():
        found, fits = f"all of {len(rows)} are short enough", True
        try:
            rows.check_lengths(tokenizer, limit, config.data.apply_chat_template_kwargs)
        except DataError as error:
            found, fits = str(error), False
        advice = "change data.max_start_length, or drop these rows"
        lines.append(decide(fits, f"{name} prompts", found, f"{limit} tokens at most", advice))
    return lines
