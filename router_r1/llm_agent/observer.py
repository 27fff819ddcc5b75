"""Follows a trajectory while it is made: what a terminal or an HTTP stream shows.

Guarantees: the texts of ``on_text`` and ``on_observation``, joined in order, are the trajectory's
``response_text``; no text ends within a character, and special tokens are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from router_r1.llm_agent.parsing import Action
from router_r1.pool.outcome import CallResult
from router_r1.tags import DEFAULT_TAGS, Tags
from verl.trajectory import Trajectory
from verl.utils.stream_decoder import StreamDecoder


class TrajectoryObserver:
    """Every method does nothing until overridden; all are called on the rollout's event loop."""

    def on_text(self, delta: str) -> None:
        """The policy wrote on; never empty."""

    def on_turn_end(self, action: Action) -> None:
        """A turn is complete, and asks for ``action``."""

    def on_call(self, name: str, query: str) -> None:
        """An LLM is about to be asked. What is raised here ends the trajectory without the call,
        and reaches who awaits it.
        """

    def on_result(self, result: CallResult) -> None:
        """The call has ended, with a reply or without."""

    def on_observation(self, block: str) -> None:
        """The information block that the policy reads next."""

    def on_end(self, trajectory: Trajectory) -> None:
        """The trajectory is complete; not called if it is cancelled or the engine fails."""


class TurnText:
    """Passes the text of one turn on to an observer, up to the stop string of ``tags``.

    ``decode`` is the rollout's own decoding, which drops special tokens.
    """

    def __init__(
        self,
        observer: TrajectoryObserver,
        decode: Callable[[Sequence[int]], str],
        tags: Tags = DEFAULT_TAGS,
    ) -> None:
        self._observer, self._tags = observer, tags
        self._longest_stop = max(map(len, tags.stop_strings))
        self._decoder = StreamDecoder(decode)
        self._tail = ""  # of what was passed on: a stop may begin in it
        self._stopped = False

    def push(self, ids: Sequence[int]) -> None:
        """The next ids of the turn."""
        self._pass_on(self._decoder.push(ids))

    def end(self) -> None:
        """The turn has no more ids."""
        self._pass_on(self._decoder.flush())

    def _pass_on(self, delta: str) -> None:
        if self._stopped:
            return
        window = self._tail + delta
        kept = self._tags.cut_after_stop(window)
        self._stopped = kept.endswith(self._tags.stop_strings)
        fresh = kept[len(self._tail) :]
        self._tail = window[-self._longest_stop + 1 :]
        if fresh:
            self._observer.on_text(fresh)
