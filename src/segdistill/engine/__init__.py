"""Runs and sweeps: objects built from a configuration, the teacher, the trainer."""
