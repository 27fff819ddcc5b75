"""FSDP2 workers: actor, reference and critic."""
