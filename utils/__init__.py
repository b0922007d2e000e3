"""What the notebooks import: scenes, models, figures and checks."""
