"""Tests of llama4sdk.weights."""
