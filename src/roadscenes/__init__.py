"""The renderer of the embedded data set: procedural dashcam scenes with exact labels."""
