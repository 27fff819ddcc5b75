"""``router-r1``: one command for training, scoring, asking and serving a router.

Guarantees: help and completion import none of torch, ray, vllm, transformers and hydra, and appear
at once; every subcommand takes the arguments of the command it stands for. Paths mean what they
mean where ``router-r1`` is called, and what a run leaves lies there; recipes and pools by name are
those of the repository.
"""
