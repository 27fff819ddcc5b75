"""How the trainer hands its weights to the rollout engine."""
