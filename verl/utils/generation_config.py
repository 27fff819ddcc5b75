"""What a model's ``generation_config.json`` says: which tokens end a turn, and whether it can be
saved again.

Guarantees: every engine stops at the same ids; a model whose generation config transformers would
refuse to save is repaired when it is loaded, long before a checkpoint depends on it.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from transformers import AutoConfig, GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

from verl.config.validation import ConfigError

logger = logging.getLogger(__name__)
_NAMED_IN_REFUSAL = re.compile(r"^- `(\w+)`", re.MULTILINE)


def read_generation_config(model_path: str) -> GenerationConfig:
    """Of a folder or hub name; what ``config.json`` implies where the model has none. Raises
    :class:`ConfigError` if transformers cannot use it."""
    try:
        return GenerationConfig.from_pretrained(model_path)
    except OSError:  # there is none, or it is no JSON: then transformers takes the model's, too
        return GenerationConfig.from_model_config(_model_config(model_path))
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"generation_config.json of {model_path} cannot be used: "
            f"{str(error).splitlines()[0]}; correct the file or remove it"
        ) from error


def end_of_turn_ids(model_path: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids that end a generation: the tokenizer's EOS and all of the generation config, sorted.

    Ids beyond the model's vocabulary, which it can never sample, are left out. Raises
    :class:`ConfigError` if the generation config cannot be used.
    """
    listed = read_generation_config(model_path).eos_token_id
    ids = {*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_token_id} - {None}
    if not all(isinstance(token, int) for token in ids):
        raise ConfigError(
            f"generation_config.json of {model_path}: eos_token_id must be an id or a list of "
            f"ids, got {listed!r}"
        )
    vocabulary = _model_config(model_path).get_text_config().vocab_size
    return tuple(sorted(token for token in ids if 0 <= token < vocabulary))


def _model_config(model_path: str) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(model_path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the model {model_path} has no usable config.json: {str(error).splitlines()[0]}"
        ) from error


def make_savable(config: GenerationConfig) -> list[str]:
    """Resets the fields for which transformers would refuse to save ``config``; their names.

    A greedy config with a temperature is one such. Token ids are kept unless they are themselves
    at fault; rollouts take their sampling from the run's configuration, never from here.
    """
    refusal = _refusal(config)
    if refusal is None:
        return []
    named = _NAMED_IN_REFUSAL.findall(refusal)
    others = [name for name in config.to_diff_dict() if not name.endswith("token_id")]
    changed: list[str] = []
    for names in (named, others):
        for name in names:
            setattr(config, name, getattr(GenerationConfig(), name, None))
        changed += names
        if _refusal(config) is None:
            break
    return changed


def repair_generation_config(model: Any) -> None:
    """:func:`make_savable` for a loaded model, with a warning of what was reset."""
    if changed := make_savable(model.generation_config):
        logger.warning(
            "the model's generation config contradicts itself and could not be saved: reset %s",
            ", ".join(changed),
        )


def _refusal(config: GenerationConfig) -> str | None:
    try:
        config.validate(strict=True)
    except ValueError as error:
        return str(error)
    return None
