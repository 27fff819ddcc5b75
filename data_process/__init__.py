"""Prompts and data preparation."""
