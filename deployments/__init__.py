"""What a team runs: the ``paced`` command."""
