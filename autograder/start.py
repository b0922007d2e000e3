"""Where the command begins: finds the course as git does, and puts its utils/ within reach."""

import sys
from pathlib import Path

from autograder.authoring.new import STARTER


def course_root() -> Path | None:
    """The nearest folder with labs' sources and what they import, from the current one upward; but
    none that lies below a gradebook: a hand-in can have such folders, too, and isn't to be run."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        is_course = (folder / "solutions").is_dir() and (folder / "utils" / "checks.py").is_file()
        if is_course and not any((above / "gradebook.db").exists() for above in folder.parents):
            return folder
    return None


def main() -> None:
    """The command `autograder`; everything else imports a course's utils/, so it comes after."""
    root = course_root()
    if root is None and sys.argv[1:] and sys.argv[1] != "new" and "--help" not in sys.argv:
        sys.exit(
            "there is no course here or above: go to its folder, which holds solutions/ and utils/,"
            " or begin one by `autograder new DIR`"
        )
    sys.path.insert(0, str(root or STARTER))
    try:
        from autograder.cli import app
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in ("autograder", "utils"):
            raise
        sys.exit(f"{error.name} is not installed: pip install 'convnet-labs[grading]'")
    app()
