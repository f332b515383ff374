"""Results of the jobs of a sweep."""
