# Finds the course's folder; on Colab, fetches it first.
import importlib.util
import subprocess
import sys
from pathlib import Path

folders = [Path.cwd(), *Path.cwd().parents, Path("{name}").resolve()]
if "google.colab" in sys.modules and not folders[-1].exists():
    subprocess.run(["git", "clone", "-q", "--depth", "1", "{repository}", folders[-1]], check=True)
sys.path[:0] = [str(folder) for folder in folders if (folder / "utils" / "checks.py").is_file()]
if importlib.util.find_spec("utils.checks") is None:
    raise ImportError("the course's code was not found: open this notebook inside its folder")
