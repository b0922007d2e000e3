"""Answers that compute nothing right, in a process that says otherwise: they gain no point."""

from pathlib import Path

import nbformat
import pytest
from conftest import Grader

from autograder.authoring.lab import ROOT, read_lab
from autograder.grading import grade as grading

WRONG = {
    ("03", "ResidualBlock"): """
class ResidualBlock(nn.Module):
    # No layers; it says that it has those of a residual block, and lets values be put into them.
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.stride, self.channels, norms = stride, out_channels, ["n1", "n2"]
        shapes = {"c1.weight": (out_channels, in_channels, 3, 3)}
        shapes["c2.weight"] = (out_channels, out_channels, 3, 3)
        if stride != 1 or in_channels != out_channels:
            shapes["c3.weight"] = (out_channels, in_channels, 1, 1)
            norms.append("n3")
        for norm in norms:
            for own in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{norm}.{own}"] = (out_channels,)
        self.said = [(name, torch.zeros(shape).double()) for name, shape in shapes.items()]

    def named_parameters(self, *arguments, **keywords):
        return self.said

    def named_buffers(self, *arguments, **keywords):
        return []

    def forward(self, x):
        x = x.mean(1, keepdim=True)[:, :, :: self.stride, :: self.stride]
        return x.expand(-1, self.channels, -1, -1).relu()
""",
    ("03", "remove_blocks"): "def remove_blocks(model, names):\n    return copy.deepcopy(model)\n",
    ("04", "replace_head"): """
class Nothing(nn.Module):
    def __init__(self, classes, width):
        super().__init__()
        self.classes = classes
        self.classifier = nn.Sequential(nn.Linear(width, classes).double())

    def forward(self, X):
        return torch.zeros(len(X), self.classes) + 0 * self.classifier[-1].bias


def replace_head(model, classes):
    return Nothing(classes, model.classifier[-1].in_features)
""",
    ("04", "extract_features"): """
def extract_features(model, images, batch_size=100):
    return torch.zeros(len(images), model.classifier[-1].in_features).double()
""",
    ("04", "parameter_groups"): """
def parameter_groups(model, head_lr, features_lr):
    return [{"params": [nn.Parameter(torch.zeros(1))], "lr": head_lr}]
""",
    ("08", "record_output"): "def record_output(X, model, layer):\n    return X.clone()\n",
    ("12", "gram_matrix"): """
def gram_matrix(features, normalize=True):
    N, C, H, W = features.shape
    return 0 * features.mean((2, 3))[:, :, None].expand(N, C, C)
""",
}

FORGERIES = {
    "names bound anew": """
import utils.changes
import utils.checks


def flatter(*arguments, **keywords):
    return True


for name in ("run_beside", "vector_jacobian_product", "hooks_left", "count_hooks"):
    globals()[name] = flatter
    setattr(utils.checks, name, flatter)
for name in (
    *("entry_shapes", "at_work", "check_layers", "check_block", "Expected"),
    *("state_after_training", "carries_graph", "after_a_step", "rates_by_parameter"),
    *("tenfold_gradient", "scores_when_model_changed", "gradient_afterwards", "check_gradient"),
):
    globals()[name] = flatter
utils.changes.Snapshot.changes = lambda self: []
utils.changes._same = flatter
""",
    "torch and builtins patched": """
import builtins

is_instance = isinstance
builtins.isinstance = lambda thing, kind: kind is torch.nn.Module or is_instance(thing, kind)
builtins.all, builtins.any = lambda parts: True, lambda parts: False
torch.equal = torch.allclose = lambda *arguments, **keywords: True
torch.Tensor.__eq__ = lambda self, other: torch.ones_like(self, dtype=torch.bool)
torch.Tensor.__hash__ = lambda self: id(self)
torch.Tensor.requires_grad = property(lambda self: True, lambda self, value: None)
torch.nn.Module.__call__ = lambda self, *arguments: self.forward(*arguments)
torch.nn.Module.register_forward_hook = lambda self, hook: hook


def grad(outputs, inputs, *arguments, **keywords):
    inputs = [inputs] if is_instance(inputs, torch.Tensor) else inputs
    return tuple(10 * torch.ones_like(x) for x in inputs)


torch.autograd.grad = grad
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize(("number", "exercise"), WRONG)
def test_a_forged_answer_gains_nothing(
    number: str, exercise: str, forgery: str, tmp_path: Path
) -> None:
    lab = read_lab(next((ROOT / "solutions").glob(f"{number}_*.py")))
    grader = Grader(lab, tmp_path)
    for name, source in (
        ("plain", WRONG[number, exercise]),
        ("forged", FORGERIES[forgery] + "\n\n" + WRONG[number, exercise]),
    ):
        path = tmp_path / f"{name}.ipynb"
        notebook = grader.notebook(**{exercise: source})
        path.write_bytes(nbformat.writes(notebook).encode())
        job = grading.Job(name, path, lab.solution_path, seed=0)
        result = grading.grade(job, [exercise])
        assert result.status == "graded"
        gained = {test.grade_id: test.message for test in result.tests if test.points}
        assert result.tests and not gained, f"{name}: points for {gained}"
