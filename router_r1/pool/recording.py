"""Calls kept in an SQLite file, to be replayed instead of sent.

Guarantees: a call is known by its API model, messages and the other fields of its body alone; what
is kept of a reply is what the policy may read; an answer is never overwritten by a failure; several
processes may share a file; neither keys, headers nor endpoints are stored.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router_r1.pool.outcome import CallResult, Outcome
from router_r1.pool.reasoning import split_reasoning
from verl.config.paths import PATH
from verl.config.validation import ConfigError, Section, one_of
from verl.errors import UserError

MODES = ("off", "record", "replay", "replay_or_call")
_COLUMNS = {
    "key": "text primary key",
    "llm": "text not null",
    "model": "text not null",
    "messages": "text not null",
    "parameters": "text not null",
    "outcome": "text not null",
    "reply": "text",
    "prompt_tokens": "integer not null",
    "completion_tokens": "integer not null",
    "usage_estimated": "integer not null",
    "latency_s": "real not null",
    "recorded_at": "real not null",
}
_CREATE = f"""
create table if not exists calls ({", ".join(map(" ".join, _COLUMNS.items()))})"""
# An empty reply was paid for, and the same request would bring it again.
_ANSWERED = (Outcome.OK.value, Outcome.EMPTY.value)
_INSERT = f"""
insert into calls ({", ".join(_COLUMNS)}) values ({", ".join("?" * len(_COLUMNS))})
on conflict (key) do update set
    {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "key")}
    where calls.outcome not in {_ANSWERED} or excluded.outcome in {_ANSWERED}"""


@dataclass
class RecordingConfig(Section, prefix="pool.recording."):
    """Whether and where calls are kept.

    Attributes:
        mode: "off"; "record" sends every call and keeps it; "replay" sends none: a call that was
            not recorded fails as "not_recorded"; "replay_or_call" sends, and keeps, only what has
            no recorded answer.
        path: the SQLite file.
    """

    mode: str = field(default="off", metadata=one_of(*MODES))
    path: str | None = field(default=None, metadata=PATH)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode != "off" and not self.path:
            raise ConfigError(
                f"pool.recording.mode={self.mode} needs pool.recording.path, an SQLite file"
            )


@dataclass(frozen=True)
class Request:
    """What is sent: API model, messages, and the body's other fields (sampling parameters)."""

    model: str
    messages: list[dict[str, str]]
    parameters: dict[str, Any]

    @property
    def key(self) -> str:
        """The same for equal requests."""
        text = json.dumps([self.model, self.messages, self.parameters], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Recording:
    """An open file of calls; belongs to the thread that opened it. Raises :class:`UserError` if the
    file cannot be opened, or is missing in replay."""

    def __init__(self, config: RecordingConfig) -> None:
        assert config.path is not None
        self._mode = config.mode
        path = Path(config.path)
        if config.mode == "replay" and not path.is_file():
            raise UserError(f"no recording to replay: {path}; make it with mode=record first")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = normal")
            self._connection.execute(_CREATE)
        except sqlite3.DatabaseError as error:
            raise UserError(f"{path} cannot be used as a recording: {error}") from error

    @property
    def sends(self) -> bool:
        """Whether calls without a recorded answer are sent."""
        return self._mode != "replay"

    def find(self, request: Request, llm: str) -> CallResult | None:
        """The recorded call, without its cost, or None if it must be sent (or cannot be known)."""
        if self._mode == "record":
            return None
        row = self._connection.execute(
            "select outcome, reply, prompt_tokens, completion_tokens, latency_s, usage_estimated "
            "from calls where key = ?",
            (request.key,),
        ).fetchone()
        if row is None or (row[0] not in _ANSWERED and self.sends):
            return None
        outcome, reply, prompt, completion, latency_s, estimated = row
        if reply is not None:  # recordings once kept replies with their reasoning
            reply = split_reasoning(reply).text or None
            outcome = outcome if reply else Outcome.EMPTY
        return CallResult(
            llm,
            Outcome(outcome),
            reply,
            prompt,
            completion,
            latency_s=latency_s,
            usage_estimated=bool(estimated),
            replayed=True,
        )

    def keep(self, request: Request, result: CallResult) -> None:
        """Stores a call that was sent."""
        row = (
            request.key,
            result.llm,
            request.model,
            json.dumps(request.messages),
            json.dumps(request.parameters),
            result.outcome.value,
            result.text,
            result.prompt_tokens,
            result.completion_tokens,
            int(result.usage_estimated),
            result.latency_s,
            time.time(),
        )
        self._connection.execute(_INSERT, row)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()


def export_parquet(recording: Path, target: Path) -> int:
    """Writes all calls of a recording as a parquet file; returns how many. Raises
    :class:`UserError` if ``recording`` is missing or no recording."""
    if not recording.is_file():
        raise UserError(f"no such recording: {recording}")
    try:
        with sqlite3.connect(recording) as connection:
            rows = connection.execute(
                f"select {', '.join(_COLUMNS)} from calls order by recorded_at"
            ).fetchall()
    except sqlite3.DatabaseError as error:
        raise UserError(f"{recording} is no recording: {error}") from error
    import pyarrow as pa
    import pyarrow.parquet

    target.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(_COLUMNS)})
    pyarrow.parquet.write_table(table, target)
    return len(rows)
