"""Distil a large segmentation network into a small one that ships as a timed and scored ONNX file."""

__version__ = "0.2.0"
