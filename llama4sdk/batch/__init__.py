"""Answering many requests, with a file of their outcomes from which a later call continues."""
