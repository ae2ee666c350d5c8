"""Checkpoint formats, read without a tensor library."""
