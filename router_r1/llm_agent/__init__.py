"""The routing agent: parsing, observations and the loop that makes trajectories."""

from router_r1.llm_agent.parsing import Action, parse_action

__all__ = ["Action", "LLMGenerationManager", "parse_action"]


def __getattr__(name: str) -> object:
    # Imported on demand: the rewards need the parser, and the loop needs the pool.
    if name == "LLMGenerationManager":
        from router_r1.llm_agent.generation import LLMGenerationManager

        return LLMGenerationManager
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
