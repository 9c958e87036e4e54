"""The final answer of a response: boxes, answer statements, the last sentence, the choices of a question.

Here belongs whatever decides which part of a response is its answer.
Not here: how that part is read as mathematics (grammar), or whether it is right (rules).
"""
