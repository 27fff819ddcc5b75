"""Rolls every question of an evaluation out, and writes each trajectory down as it ends.

Guarantees: every question gets its ``n_samples`` trajectories, none twice; what ended before an
interruption is kept and not asked again, unless the evaluation has changed since.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from verl.config.ppo import PPOConfig
from verl.interfaces import RolloutOptions, RolloutRequest, RolloutSource
from verl.trainer.evaluation.records import RecordLog, keys, read_log, record_of
from verl.trajectory import Trajectory
from verl.utils.console import progress_bar
from verl.utils.dataset import PromptDataset
from verl.utils.redaction import redact

logger = logging.getLogger(__name__)

TRAJECTORIES = "trajectories.jsonl"
_SETTINGS = "settings.json"
# These do not shape a trajectory; of the trainer only the seed does, where tokens are sampled.
_IRRELEVANT = ("trainer", "ray", "critic", "algorithm", "api_key")


def evaluation_rows(dataset: PromptDataset, n_samples: int) -> list[RolloutRequest]:
    """The requests of an evaluation; a question's uid is ``{data_source}/{row}``."""
    return [
        dataset.request(row, uid=f"{dataset.rows[row]['data_source']}/{row}", sample_index=k)
        for row in range(len(dataset))
        for k in range(n_samples)
    ]


def prepare_folder(config: PPOConfig, model_path: Path) -> Path:
    """The evaluation's folder; trajectories of a different evaluation in it are moved aside."""
    folder = Path(config.evaluation.folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(_settings(config, model_path), indent=2, sort_keys=True)
    path, log = folder / _SETTINGS, folder / TRAJECTORIES
    unchanged = path.is_file() and path.read_text(encoding="utf-8") == settings
    if log.is_file() and not (unchanged and config.evaluation.resume):
        log.replace(folder / f"replaced_{TRAJECTORIES}")
        logger.info("the evaluation in %s is another one: starting anew", folder)
    path.write_text(settings, encoding="utf-8")
    return folder


def _settings(config: PPOConfig, model_path: Path) -> dict[str, Any]:
    content = {name: v for name, v in asdict(config).items() if name not in _IRRELEVANT}
    policy = config.actor_rollout_ref
    content["actor_rollout_ref"] = {"rollout": asdict(policy.rollout)}
    if policy.rollout.val.temperature > 0:
        content["seed"] = config.trainer.seed
    content["model"] = {"path": str(model_path), "weights": _weights(model_path)}
    # A trajectory is the same whether more or fewer are wanted.
    unshaping = dict.fromkeys(("folder", "resume", "limit", "n_samples"))
    content["evaluation"] = {**content["evaluation"], **unshaping}
    settings: dict[str, Any] = redact(content)
    return settings


def _weights(model_path: Path) -> str:
    """Changes when a file of weights does; a hub name has none."""
    stats = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(model_path.glob("*.safetensors"))
    ]
    return hashlib.blake2b(repr(stats).encode(), digest_size=8).hexdigest()


def generate(
    requests: list[RolloutRequest], source: RolloutSource, options: RolloutOptions, folder: Path
) -> int:
    """Rolls out what the folder's log lacks; how many trajectories that was."""
    path = folder / TRAJECTORIES
    done = keys(read_log(path))
    missing = [r for r in requests if (r.uid, r.sample_index) not in done]
    by_uid = {request.uid: request for request in requests}
    if done:
        logger.info("%d of %d trajectories are there already", len(done), len(requests))
    log = RecordLog(path)
    try:
        with progress_bar() as progress:
            bar = progress.add_task("answering", total=len(requests), completed=len(done))

            def keep(trajectory: Trajectory) -> None:
                log.append(record_of(trajectory, by_uid[trajectory.uid]))
                progress.advance(bar)

            trajectories = source.rollout(missing, options, keep) if missing else []
    finally:
        log.close()
    if broken := sum(trajectory.excluded for trajectory in trajectories):
        logger.warning(
            "in %d of %d trajectories something else than the policy failed; they are scored as "
            "they are (evaluation.resume=false asks all anew)",
            broken,
            len(trajectories),
        )
    return len(missing)
