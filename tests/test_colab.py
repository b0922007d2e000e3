"""Colab, imitated: a bare folder, a kernel that has imported `google.colab`, and no notebook file.

What it imitates was read in google/colab's own code: its versions in googlecolab/backend-info.
"""

import copy
import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from autograder.authoring.handout import hand_out
from autograder.authoring.lab import find_lab, lab_names
from autograder.grading.grade import grade
from autograder.grading.job import Job
from autograder.rehearsal.known_answers import solution_answers

# `make matrix` makes an environment with Colab's versions; without it, ours stands in.
PYTHON = os.environ.get("COLAB_PYTHON")
# What its runtimes had late in 2026, where it matters to a lab.
VERSIONS = [
    *("torch==2.11.*", "torchvision==0.26.*", "numpy==2.1.*", "matplotlib==3.10.*"),
    *("ipython==7.34.0", "ipywidgets==7.7.1", "ipykernel==6.17.1", "pip"),
    *("pillow", "safetensors", "scikit-image", "scikit-learn", "scipy", "threadpoolctl", "tqdm"),
]
# Of google.colab, what the labs' first and last cells use.
MODULES = {
    "__init__.py": "from google.colab import _message, files\n",
    "_message.py": """\
import json
import os


def blocking_request(request_type, request="", timeout_sec=5):
    assert request_type == "get_ipynb"
    with open(os.environ["COLAB_NOTEBOOK"], encoding="utf-8") as file:
        return {"ipynb": json.load(file)}
""",
    "files.py": "def download(path):\n    open(path).close()\n",
}
START = "import google.colab; from ipykernel.kernelapp import launch_new_instance as start; start()"


class Colab:
    """Colab's machine for one notebook: what is in `folder` stays when the runtime restarts."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = place / "content"
        self.notebook = place / "notebook.json"  # which Colab keeps elsewhere
        self.folder.mkdir(parents=True)
        argv = [PYTHON or sys.executable, "-c", START, "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": "Colab", "language": "python"}
        files = {place / "google" / "colab" / name: text for name, text in MODULES.items()}
        for path, text in (files | {place / "kernels/colab/kernel.json": json.dumps(spec)}).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setenv("JUPYTER_PATH", str(place))
        monkeypatch.setenv("PYTHONPATH", str(place))
        monkeypatch.setenv("COLAB_NOTEBOOK", str(self.notebook))

    def run(self, notebook: NotebookNode) -> list[str]:
        """Runs a notebook from top to bottom in a new kernel, and asserts that no cell fails.

        Returns:
            The text that each cell printed.
        """
        nbformat.write(notebook, self.notebook)
        place = {"metadata": {"path": str(self.folder)}}
        client = NotebookClient(
            copy.deepcopy(notebook), timeout=600, kernel_name="colab", resources=place
        )
        printed = []
        for cell in client.execute().cells:
            streams = [o for o in cell.get("outputs", ()) if o.output_type == "stream"]
            assert [stream.text for stream in streams if stream.name == "stderr"] == []
            printed.append("".join(stream.text for stream in streams))
        return printed


@pytest.mark.slow(minutes=2)
@pytest.mark.parametrize("name", lab_names() if PYTHON else ["01_convolution"])
def test_a_lab_on_colab(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = find_lab(name)
    course = tmp_path / "labs"
    hand_out(course, [lab], f"file://{course}")
    notebook = nbformat.read(course / "labs" / f"{name}.ipynb", as_version=4)
    answers = solution_answers(lab)
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
        cell.metadata["id"] = cell.id
        cell.metadata["colab"] = {"base_uri": "https://localhost:8080/"}
    notebook.metadata["colab"] = {"provenance": [], "toc_visible": True}

    colab = Colab(tmp_path / "machine", monkeypatch)
    *_, said = colab.run(notebook)
    written = colab.folder / f"{name}.ipynb"
    count = len(lab.exercises)
    assert f"\n{count} of {count} exercises are right so far.\n" in said
    assert f"Your browser downloads {name}.ipynb: hand that in." in said
    result = grade(Job("student", written, lab.solution_path, seed=1))
    assert (result.score, result.repairs, result.flags) == (result.max_score, [], [])

    # After a restart, which forgets the kernel and keeps the files; and the first cell once more.
    setup = next(cell for cell in notebook.cells if cell.id == "setup")
    test = next(n for n, cell in enumerate(notebook.cells) if cell.id.startswith("test_"))
    notebook.cells = [nbformat.from_dict({**setup, "id": "again"}), *notebook.cells[: test + 1]]
    assert ": right so far" in colab.run(notebook)[-1]
