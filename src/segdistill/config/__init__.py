"""The configuration: its schema, its checks, and what its names may call."""
