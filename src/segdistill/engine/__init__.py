"""One run, and many: objects from a configuration, the teacher, the trainer, sweeps."""
