"""The grammar of answers: from characters through one spelling and tokens to a tree of typed nodes.

Here belongs whatever says what a text means as mathematics: notation, numbers, units, words.
Not here: where in a response an answer stands, or whether two answers are the same.
"""
