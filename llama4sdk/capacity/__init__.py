"""Prediction: what any engine would do on any machine. Pure functions of engines, machines and models."""
