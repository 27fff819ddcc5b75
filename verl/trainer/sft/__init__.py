"""Supervised fine-tuning."""

from verl.utils.transformers_imports import leave_out_scikit_learn

leave_out_scikit_learn()
