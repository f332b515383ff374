"""Distil a large segmentation network into a small one that ships as a timed and scored ONNX file."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else onnxruntime tells Microsoft each model's name and hashes

__version__ = "0.2.0"
