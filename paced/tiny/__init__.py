"""The tiny world: a checkable task small enough that the whole method runs in minutes on two CPU cores."""
