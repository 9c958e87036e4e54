"""What is kept on disk: identities, artifacts with their manifests, the sample-keyed store, tables.

What belongs here knows files and digests; nothing here knows what a sample or a target means. Imports no torch.
"""
