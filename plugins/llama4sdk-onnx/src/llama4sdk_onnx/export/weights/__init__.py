"""A checkpoint's weights as the exported graphs take them, a matrix at a time."""
