"""What ships. Knows nothing of Lightning or Hydra; `segmenter` and `latency` run without torch."""
