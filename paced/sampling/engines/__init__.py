"""Sampling engines: one Protocol, one file an engine.

An engine turns token ids into token ids; it grades nothing and stores nothing.
"""
