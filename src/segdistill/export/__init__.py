"""Export of trained networks to ONNX, independent of Lightning and Hydra."""
