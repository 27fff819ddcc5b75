"""One shape of sampling, from the configuration to the engine's call."""

from __future__ import annotations

import pytest

from verl.config.rollout import RolloutConfig
from verl.config.sampling import Sampling
from verl.config.validation import ConfigError
from verl.interfaces import RolloutOptions, SamplingParams


def test_a_configured_distribution_reaches_every_generation() -> None:
    config = RolloutConfig(temperature=0.7, top_p=0.9, top_k=40)
    options = RolloutOptions.of(config, seed=3)
    assert options == RolloutOptions(temperature=0.7, top_p=0.9, top_k=40, seed=3)
    one = options.generation(max_tokens=8, stop=("</answer>",), seed=5)
    assert one == SamplingParams(
        temperature=0.7, top_p=0.9, top_k=40, max_tokens=8, stop=("</answer>",), seed=5
    )


@pytest.mark.parametrize("shape", [Sampling, RolloutOptions, RolloutConfig])
@pytest.mark.parametrize(("name", "value"), [("temperature", -0.1), ("top_p", 0.0), ("top_p", 1.1)])
def test_a_value_out_of_range_is_refused_everywhere(
    shape: type[Sampling], name: str, value: float
) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be .* got {value}"):
        shape(**{name: value})
