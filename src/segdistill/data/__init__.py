"""Images and masks to batches. The modules here are imported by name: some of them need no torch."""
