"""Data sets: read in their published layouts, cleaned, kept apart from the benchmarks."""
