"""A lab as its author wrote it: cells, the students' notebook, the reference."""
