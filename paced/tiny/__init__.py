"""The tiny world: a checkable task small enough that the whole method runs in minutes on two CPU cores.

What belongs here makes its problems, its answers and its two models; the product treats them like any others.
"""
