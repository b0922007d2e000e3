# Finds the course's folder; on Colab, fetches it first.
import subprocess
import sys
from pathlib import Path

folders = [Path.cwd(), *Path.cwd().parents, Path("{name}").resolve()]
if "google.colab" in sys.modules and not folders[-1].exists():
    command = ["git", "clone", "-q", "--depth", "1", "{repository}", str(folders[-1])]
    if subprocess.run(command).returncode:
        raise ImportError("the course's code could not be fetched: run this cell again in a while")
sys.path[:0] = [str(folder) for folder in folders if (folder / "utils" / "checks.py").is_file()]
try:
    from utils.guard import checked, unchecked
    from utils.notebook import explain_errors
    from utils.recorded import Recorded
except ModuleNotFoundError as error:
    if error.name not in ("utils", "utils.guard", "utils.notebook", "utils.recorded"):
        raise
    raise ImportError(
        "the course's code was not found: open this notebook inside the course's folder"
    ) from None
explain_errors()
