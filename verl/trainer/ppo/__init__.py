"""PPO and GRPO."""
