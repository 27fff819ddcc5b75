"""Asking a trained router: its settings, its life, and the command ``infer_vllm.py``."""
