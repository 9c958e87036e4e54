"""Measurements on a user's own models: signal of gradients by pass rate, what stored targets lose.

What belongs here is asked for apart from a run; no stage of the pipeline depends on it.
"""
