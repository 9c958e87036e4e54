"""PACED: pass-rate-weighted distillation of language models (arXiv 2603.11178)."""

__version__ = "0.1.0"
