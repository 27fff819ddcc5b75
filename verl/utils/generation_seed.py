"""The seed of each generation of a run."""

from __future__ import annotations

import hashlib


def generation_seed(run_seed: int, uid: str, sample_index: int, turn: int) -> int:
    """Seed of one generation, in [0, 2**63): what vLLM and ``torch.Generator`` take.

    It depends on its arguments alone, not on process, replica, order or Python's hash seed: the
    samples of a prompt and the turns of a trajectory draw different noise wherever they are
    generated, and a run draws the same noise again.
    """
    identity = repr((run_seed, uid, sample_index, turn)).encode()
    digest = hashlib.blake2b(identity, digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
