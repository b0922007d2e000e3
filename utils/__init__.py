"""What the notebooks import: scenes, models, figures and checks."""

import os

# Before PyTorch is imported: its threads are to sleep while they wait for one another. Where other
# programs keep the cores busy, threads that spin made a lab ten times as slow.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
