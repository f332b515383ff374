"""What the jobs of a sweep come to."""
