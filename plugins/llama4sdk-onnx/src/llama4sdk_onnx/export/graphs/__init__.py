"""The exported graphs, built with onnx_ir."""
