"""Engines behind HTTP: every fault that a server can have, on loopback and byte by byte."""
