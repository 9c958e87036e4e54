"""Distillation: the teacher's answers and targets, the objectives, the one training loop and its processes.

What belongs here needs a teacher or a gradient. Weights come as a column, and nothing here knows their scheme.
"""
