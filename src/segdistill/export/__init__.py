"""A trained network as ONNX files. Knows nothing of Lightning or Hydra."""
