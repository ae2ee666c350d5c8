"""Llama 4 for optimum: importing this registers the architecture with its exporter and its ONNX Runtime classes.

``optimum-cli export onnx`` needs no import: it finds the registration by itself.
"""

from llama4sdk_optimum.exporter import Llama4OnnxConfig
from llama4sdk_optimum.loading import register_cache_shape

__all__ = ["Llama4OnnxConfig"]

register_cache_shape()
