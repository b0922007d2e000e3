"""What TAs run: release labs, grade submissions, write grades."""
