"""Files: atomic writes, checksums, weights without code, ONNX. Nothing here trains."""
