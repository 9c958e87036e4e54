"""Responses of a model: engines that draw them, the store that keeps them, pass counts, likelihoods of choices.

What belongs here turns problems and a model into samples; what is learnt from them is decided elsewhere.
"""
