"""Before anything is paid for: what a recipe will cost, what it needs in memory, whether its models fit together.

What belongs here estimates or refuses; it computes no result.
"""
