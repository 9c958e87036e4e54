"""Judging students: benchmarks, paired comparisons within a run and across runs, the rule for a promotion.

What belongs here turns students into scores and scores into decisions; it draws nothing.
"""
