"""Shared utilities: errors, files, the console, hardware, images."""
