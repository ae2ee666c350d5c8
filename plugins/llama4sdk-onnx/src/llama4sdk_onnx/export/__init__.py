"""From a checkpoint to an export directory. Needs onnx_ir; running an export does not."""
