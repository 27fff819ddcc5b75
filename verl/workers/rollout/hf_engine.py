"""Generation with transformers alone: slower than vLLM, but it starts in a second anywhere.

Guarantees: stops, kept ids and log-probs are vLLM's: the ids up to and with the one that completes
a stop string or is an end-of-text token, with log-probs under the distribution that was sampled
from. Generations under way take turns token by token; a cancelled one takes none after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from verl.interfaces import GenerationOutput, OnTokens, SamplingParams
from verl.utils.generation_config import end_of_turn_ids
from verl.utils.stream_decoder import StreamDecoder
from verl.workers.rollout.errors import RolloutEngineError

# Below this, threads of one step on CPU wait for each other longer than they work: with two on a
# busy machine a token of the 1.5M-parameter policy took 63 ms, with one 4 ms (measured).
_SMALL_PARAMETERS = 50_000_000


class HFEngine:
    """Implements :class:`verl.interfaces.GenerationEngine`.

    Args:
        dtype: of the forward pass, "float32" or "bfloat16".
        max_model_len: longest context, tokens.
        seed: of the stream that requests without a seed of their own draw from.

    Raises:
        RolloutEngineError: if the model cannot be loaded.
    """

    def __init__(
        self, model_path: str, device: str, dtype: str, max_model_len: int, seed: int = 0
    ) -> None:
        self._device = device
        self._max_model_len = max_model_len
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model_path)
            self._end_ids = frozenset(end_of_turn_ids(model_path, self._tokenizer))
            model: Any = AutoModelForCausalLM.from_pretrained(
                model_path, dtype=getattr(torch, dtype)
            )
        except (OSError, ValueError) as error:
            raise RolloutEngineError(f"transformers cannot load {model_path}: {error}") from error
        self._model = model.to(device).eval()
        self._generator = torch.Generator(device).manual_seed(seed)
        # One thread: steps of different generations queue up in it, first come first served.
        small = model.num_parameters() < _SMALL_PARAMETERS
        threads = 1 if small else torch.get_num_threads()
        self._executor = ThreadPoolExecutor(
            1, "hf-engine", initializer=torch.set_num_threads, initargs=(threads,)
        )

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        session_id: str,
        on_tokens: OnTokens | None = None,
    ) -> GenerationOutput:
        """See :class:`verl.interfaces.GenerationEngine`."""
        del session_id  # nothing is kept between the turns of a session
        room = self._max_model_len - len(prompt_ids)
        if room <= 0:
            raise RolloutEngineError(
                f"a context of {len(prompt_ids)} tokens leaves no room in {self._max_model_len}"
            )
        loop = asyncio.get_running_loop()
        cache = DynamicCache(config=self._model.config)
        decoder = StreamDecoder(partial(self._tokenizer.decode, clean_up_tokenization_spaces=False))
        generator = self._generator
        if sampling.seed is not None:
            generator = torch.Generator(self._device).manual_seed(sampling.seed)
        ids: list[int] = []
        log_probs: list[float] = []
        text = ""
        new: Sequence[int] = prompt_ids
        while True:
            token, log_prob = await loop.run_in_executor(
                self._executor, self._step, new, cache, sampling, generator
            )
            ids.append(token)
            log_probs.append(log_prob)
            new = (token,)
            if on_tokens is not None:
                on_tokens(new)
            piece = decoder.push(new)
            text += piece
            stops = token in self._end_ids or _completes_a_stop(text, len(piece), sampling.stop)
            if stops or len(ids) >= min(sampling.max_tokens, room):
                reason = "stop" if stops else "length"
                return GenerationOutput(tuple(ids), tuple(log_probs), reason)

    @torch.inference_mode()
    def _step(
        self,
        new: Sequence[int],
        cache: DynamicCache,
        sampling: SamplingParams,
        generator: torch.Generator,
    ) -> tuple[int, float]:
        """Reads ``new`` ids into the cache and samples the next one, with its log-prob."""
        input_ids = torch.tensor([new], device=self._device)
        output = self._model(input_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        log_probs = processed_log_probs(output.logits[0, -1], sampling)
        if sampling.temperature == 0.0:
            token = log_probs.argmax()
        else:
            token = torch.multinomial(log_probs.exp(), 1, generator=generator)[0]
        return int(token), float(log_probs[token])

    async def close(self) -> None:
        """Ends the thread."""
        self._executor.shutdown(cancel_futures=True)


def processed_log_probs(logits: torch.Tensor, sampling: SamplingParams) -> torch.Tensor:
    """(V,) float32 log-probs of the distribution that ``sampling`` draws from, -inf where it
    does not; ``logits`` is (V,)."""
    scores = logits.float()
    if sampling.temperature > 0.0:
        scores = scores / sampling.temperature
        if 0 < sampling.top_k < len(scores):
            scores = scores.masked_fill(scores < scores.topk(sampling.top_k).values[-1], -torch.inf)
        if sampling.top_p < 1.0:
            ranked, order = scores.sort(descending=True)
            probability = ranked.softmax(-1)
            beyond = probability.cumsum(-1) - probability >= sampling.top_p
            scores = scores.index_fill(0, order[beyond], -torch.inf)
    return scores.log_softmax(-1)


def _completes_a_stop(text: str, new_characters: int, stop: tuple[str, ...]) -> bool:
    """Whether a stop string ends within the last ``new_characters`` of ``text``."""
    return new_characters > 0 and any(
        text.find(string, max(0, len(text) - new_characters - len(string) + 1)) >= 0
        for string in stop
    )
