"""A class over a term: gradebook, feedback, grades."""
