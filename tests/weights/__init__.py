"""Weights: where they are, how they come, what is in them."""
