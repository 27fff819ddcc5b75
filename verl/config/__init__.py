"""Typed configuration of the framework; see :func:`verl.config.validation.to_dataclass`."""
