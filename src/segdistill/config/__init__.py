"""The configuration: schema, checks, and the callables that it may name."""
