"""Data sets: read in their published layouts, cleaned, kept apart from the benchmarks, turned into prompts.

What belongs here ends with a table of problems whose gold answers can be graded; no model is loaded here.
"""
