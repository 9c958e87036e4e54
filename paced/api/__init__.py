"""What other programs use of this package; ``import paced`` offers it under short names (docs/python.md).

What belongs here checks what comes from outside and calls the rooms below. No mathematics of its own stands here.
"""
