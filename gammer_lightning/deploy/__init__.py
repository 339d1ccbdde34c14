"""A finished run, ready to run: with PyTorch, ONNX Runtime or TensorRT."""
