"""Settings of the embedded world and of the cold start of its tiny policy."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from verl.config.paths import PATH
from verl.config.validation import POSITIVE, SHARE, ConfigError, Section


@dataclass
class WorldConfig(Section, prefix="world."):
    """Size of the world.

    Attributes:
        seed: of names, facts and replies.
        train_entities, eval_entities: subjects per domain, in train and in each other split.
        train_questions, validation_questions, test_questions: rows of each parquet file.
        two_hop_share: part of the questions that need two calls.
    """

    seed: int = 7
    train_entities: int = 500
    eval_entities: int = 120
    train_questions: int = 6000
    validation_questions: int = 400
    test_questions: int = 400
    two_hop_share: float = field(default=0.4, metadata=SHARE)


@dataclass
class EmbeddedWorldConfig(WorldConfig):
    """The world, and ``folder``: where its parquet files go; time_scale: factor on latencies."""

    folder: str = field(default="data/world", metadata=PATH)
    time_scale: float = 1.0

    @property
    def size(self) -> WorldConfig:
        """The world alone, which is all that the first policy is taught for."""
        return WorldConfig(**{one.name: getattr(self, one.name) for one in fields(WorldConfig)})


@dataclass
class PolicySize(Section, prefix="cold_start.policy."):
    """Dimensions of the tiny policy.

    Two layers and eight heads are what copying needs, and it is what queries and answers are made
    of; ``initializer_range`` far above Qwen's 0.02 lets it appear within 150 steps instead of 300
    (measured). vLLM's CPU attention wants heads of at least 32 dimensions.

    Attributes:
        initializer_range: standard deviation of the weights' first values.
        embedding_range: of the embeddings'; None as the others'.
        look_back: one head of the first layer each that starts by looking at the token so many
            places before. Trained LLMs have such heads for 1, to find what follows a word.
    """

    hidden_size: int = 256
    intermediate_size: int = 256
    num_hidden_layers: int = 2
    num_attention_heads: int = 8
    initializer_range: float = field(default=0.06, metadata=POSITIVE)
    embedding_range: float | None = field(default=None, metadata=POSITIVE)
    look_back: list[int] = field(default_factory=list)
    max_position_embeddings: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.look_back) > self.num_attention_heads:
            raise ConfigError(
                f"cold_start.policy.look_back is of {len(self.look_back)} heads, but the policy "
                f"has {self.num_attention_heads} a layer"
            )
        if self.look_back and min(self.look_back) < 1:
            raise ConfigError(
                f"cold_start.policy.look_back counts places back, >= 1; got {self.look_back}"
            )


@dataclass
class GateThresholds:
    """Least rates, measured on sampled answers to questions about unseen entities."""

    names: float = 0.98
    copies: float = 0.99
    format: float = 0.98


@dataclass
class ColdStartConfig(Section, prefix="cold_start."):
    """Supervised start of the tiny policy, cached by everything that shapes it.

    Attributes:
        folder: gets the policy; a run with the same settings takes it from there.
        steps: optimizer steps; the learning rate falls to its least at the last.
        copy_steps: first steps, on short copy exercises.
        no_reply_share: part of the traces in which a call brings nothing.
        lean: how far the calls of traces follow what a prompt says of LLMs, as an
            instruction-tuned model's would: an LLM is drawn by the weight exp(lean * r), where r is
            the sum of 1, if questions are offered LLMs of their own and its descriptor holds the
            domain asked about; of 1 more, if it is the cheapest of these (by its price, of which
            the prompt may state fewer digits) and the prompt states prices; and of -d, if the
            prompt states what cost counts, where d is how many price steps the LLM lies from the
            one that the weight of cost points at: the dearest for 0, the cheapest for 1, in
            proportion between. 0 draws all alike.
        lookup_share: part of the examples that are lookup exercises: pairs of words, then some of
            them again, where the second word of each is to be found.
        words: names that the policy can write as well, though no trace calls an LLM so: they stand
            in lookup exercises only, for an evaluation that offers LLMs under new names.
        gate_freq: steps between measurements.
    """

    folder: str = field(default=".cache/cold_start", metadata=PATH)
    seed: int = 0
    steps: int = field(default=360, metadata=POSITIVE)
    batch_size: int = field(default=32, metadata=POSITIVE)
    lr: float = 3e-3
    copy_steps: int = 100
    no_reply_share: float = 0.04
    lean: float = 0.0
    lookup_share: float = 0.0
    words: list[str] = field(default_factory=list)
    gate_freq: int = 120
    policy: PolicySize = field(default_factory=PolicySize)
    gate: GateThresholds = field(default_factory=GateThresholds)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.lean <= 10.0:
            raise ConfigError(f"cold_start.lean must be in [0, 10], got {self.lean}")
        if not 0.0 <= self.lookup_share < 1.0:
            raise ConfigError(f"cold_start.lookup_share must be in [0, 1), got {self.lookup_share}")
        if self.words and not self.lookup_share:
            raise ConfigError(
                "cold_start.words stand in lookup exercises only; set cold_start.lookup_share"
            )
