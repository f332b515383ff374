"""A run's exported files as a folder that can be published: model card, labels, sample images, checksums."""
