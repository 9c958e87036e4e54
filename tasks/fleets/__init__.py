"""Fleets: copies of one program that fill the shared store with what a stage wants, started by an engine of the user's.

The store makes it right (paced/storage/claims.py): copies divide the work by claims there, and any of them may be lost
or repeated. An engine starts them, says which live, and stops them: ``Copies`` in ``base``. To add one, such as Ray or
Kubernetes, write its module and its line in ``kinds``.
"""
