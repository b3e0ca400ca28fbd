"""Models as graphs that need neither lvmzoo nor, as ONNX, torch."""
