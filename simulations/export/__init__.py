"""Deployment forms of a network: ONNX, quantised, packed, with a weight mask."""
