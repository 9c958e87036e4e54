"""The pipelines, reading like their descriptions."""
