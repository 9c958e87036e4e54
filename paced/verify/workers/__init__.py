"""Worker processes: they decide what the rules alone do not, with limits on time and memory for each case.

Here belong the pool, the program of a worker, and the engine that may run long.
Not here: rules of comparison; a worker applies the same ones as the calling process.
"""
