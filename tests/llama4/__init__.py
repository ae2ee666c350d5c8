"""Tests of llama4sdk.llama4."""
