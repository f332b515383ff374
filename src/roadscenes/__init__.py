"""Renderer of the embedded dataset: procedural dashcam scenes with exact labels."""
