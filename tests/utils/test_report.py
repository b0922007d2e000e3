"""The report's own arithmetic, and, slowly, every bar of its table."""

import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("captum")
pytest.importorskip("foolbox")

from autograder.authoring.lab import ROOT
from utils import report
from utils.models import load_model
from utils.scenes import make_scenes


def test_pointing_measures_distance_to_the_mask():
    mask = np.zeros((3, 9, 12), bool)
    mask[:, 2:4, 5:8] = True
    maps = torch.zeros(3, 9, 12)
    maps[0, 3, 7] = maps[1, 3, 10] = maps[2, 7, 11] = (
        1  # within; 3 to the right; 4 down and 4 right
    )
    assert report.pointing(maps, mask) == pytest.approx(1 / 3)
    assert report.pointing(maps, mask, 3) == pytest.approx(2 / 3)
    assert report.pointing(maps, mask, 6) == 1


@pytest.mark.parametrize(
    ("relation", "met"), [("≥", (0, 1, 1)), ("≤", (1, 1, 0)), (">", (0, 0, 1)), ("<", (1, 0, 0))]
)
def test_a_bar_is_met_or_not(relation, met):
    assert [report.Row("", value, relation, 0.5).met for value in (0.4, 0.5, 0.6)] == [
        bool(m) for m in met
    ]


def test_grad_cam_equals_the_class_activation_map():
    """With average pooling and a linear layer, Grad-CAM is Zhou et al.'s CAM by positions."""
    model = load_model("base")
    images, labels = make_scenes(4, np.random.default_rng(0)).tensors()
    with torch.no_grad():
        features = model.features(images)
        weights = model.classifier.linear.weight[labels]
        maps = torch.einsum("nchw,nc->nhw", features, weights).relu() / features[0, 0].numel()
        expected = torch.nn.functional.interpolate(maps[:, None], (64, 64), mode="bilinear")[:, 0]
    assert torch.allclose(report.grad_cam(model, images, labels), expected, atol=1e-5)


def test_correlation_leaves_out_maps_that_are_constant():
    ramp = torch.arange(12.0).view(1, 3, 4)
    pairs = torch.cat([ramp, ramp]), torch.cat([-ramp, torch.zeros(1, 3, 4)])
    assert report.mean_correlation(*pairs) == pytest.approx(-1)


@pytest.mark.slow(minutes=10)
def test_every_bar_is_met_on_fresh_scenes():
    # Apart: after it has computed with several threads, a process can't be forked safely.
    command = [sys.executable, "-m", "utils.report", "--seed", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    rows = [line for line in done.stdout.splitlines() if line.endswith(("met |", "MISSED |"))]
    assert len(rows) >= 26, done.stderr
    missed = [row for row in rows if row.endswith("MISSED |")]
    assert not missed, "\n".join(missed)
    assert done.returncode == 0
