"""Is an answer the gold answer? Rules for each kind of answer, over an engine that compares two expressions.

Here belongs whatever compares two values that are already extracted, in bounded time and memory.
Not here: sympy, math-verify and anything else that may run long (workers).
"""
