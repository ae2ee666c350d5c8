"""Tests of llama4sdk.probe, a module for each maker's drivers."""
