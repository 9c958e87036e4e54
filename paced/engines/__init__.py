"""Sampling engines: one Protocol, one file an engine."""
