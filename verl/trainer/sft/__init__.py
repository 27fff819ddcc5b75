"""Supervised fine-tuning."""

from verl.utils.unused_libraries import leave_out_unused_libraries

leave_out_unused_libraries()
