"""The columns of lists of jobs, and the filters and orders that people write with their names."""
