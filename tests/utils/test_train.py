"""Training: it learns, repeats itself from a seed, and the shipped files are what it gives."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import utils.models
from utils.models import SCENE_NETWORKS, WEIGHTS, load_model, make_scene_network
from utils.scenes import CLASS_NAMES, make_scenes
from utils.train import RECIPES, _augment, _perturb, accuracy, fit, save


def few_scenes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    scenes = make_scenes(count, np.random.default_rng(0))
    return torch.from_numpy(scenes.images).permute(0, 3, 1, 2), torch.from_numpy(scenes.shape_class)


def test_a_brief_training_learns():
    images, labels = few_scenes(128)
    before = torch.get_rng_state()
    generator, losses = torch.Generator().manual_seed(0), []
    network = make_scene_network(CLASS_NAMES, generator)
    fit(network, images, labels, generator, epochs=5, report=losses.append)
    assert len(losses) == 5 * 2
    assert np.mean(losses[-2:]) < 0.9 * np.mean(losses[:2])
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_seed_gives_the_same_training():
    images, labels = few_scenes(64)
    kernels = []
    for seed in (0, 0, 1):
        network = make_scene_network(CLASS_NAMES, torch.Generator().manual_seed(0))
        fit(network, images, labels, torch.Generator().manual_seed(seed), epochs=2, epsilon=0.01)
        kernels.append(network.features.conv1.weight.detach())
    assert torch.allclose(kernels[0], kernels[1], atol=1e-5)
    assert not torch.allclose(kernels[0], kernels[2], atol=1e-4)


def test_frozen_parameters_stay():
    images, labels = few_scenes(64)
    network = make_scene_network(CLASS_NAMES, torch.Generator().manual_seed(0))
    network.features.requires_grad_(False)
    kernel = network.features.conv3.weight.clone()
    head = network.classifier.linear.weight.clone()
    fit(network, images, labels, torch.Generator().manual_seed(0), epochs=1)
    assert torch.equal(network.features.conv3.weight, kernel)
    assert not torch.equal(network.classifier.linear.weight, head)
    assert not network.features.conv3.weight.requires_grad


def test_augmentation_flips_shifts_and_permutes():
    ramp = torch.arange(64, dtype=torch.uint8)
    images = torch.stack(
        [ramp.expand(64, 64), ramp[:, None].expand(64, 64), torch.full((64, 64), 99)]
    )
    batch = images[None].repeat(400, 1, 1, 1)
    augmented = _augment(batch, torch.Generator().manual_seed(0), permute_channels=False).long()
    assert (augmented[:, 2] == 99).all()
    steps = augmented[:, 0, 0].diff(dim=1)[:, 31]  # in the middle, where nothing is reflected
    assert set(steps.tolist()) == {-1, 1} and 120 < (steps == 1).sum() < 280
    rows = augmented[:, 1, 32, 0] - 32
    columns = torch.where(steps == 1, augmented[:, 0, 0, 32] - 32, augmented[:, 0, 0, 31] - 32)
    for shift in (rows, columns):
        assert shift.min() == -14 and shift.max() == 14
    assert (rows != columns).any()
    permuted = _augment(batch, torch.Generator().manual_seed(0), permute_channels=True)
    place = (permuted == 99).all((2, 3)).long().argmax(1)
    assert torch.bincount(place, minlength=3).min() > 90


def test_adversarial_examples_stay_close_and_hurt():
    scenes = make_scenes(100, np.random.default_rng(2))
    images, labels = scenes.tensors()
    network, epsilon = load_model("base"), 4 / 255
    attacked = _perturb(network, images, labels, epsilon, torch.Generator().manual_seed(0))
    assert not attacked.requires_grad and (attacked - images).abs().max() <= epsilon + 1e-6
    assert attacked.min() >= 0 and attacked.max() <= 1
    with torch.no_grad():
        clean, hurt = (F.cross_entropy(network(inputs), labels) for inputs in (images, attacked))
    assert hurt > 5 * clean
    assert all(parameter.grad is None for parameter in network.parameters())


def test_what_is_saved_can_be_loaded(tmp_path, monkeypatch):
    network = make_scene_network(CLASS_NAMES, torch.Generator().manual_seed(0)).eval()
    save(network, "base", 7, 0.1234, tmp_path / "new")
    record = json.loads((tmp_path / "new/base.json").read_text())
    assert (
        record["command"] == "python -m utils.train base --seed 7" and record["accuracy"] == 0.1234
    )
    monkeypatch.setattr(utils.models, "WEIGHTS", tmp_path / "new")
    for stored, value in zip(
        load_model("base").state_dict().values(), network.state_dict().values(), strict=True
    ):
        assert torch.allclose(stored, value, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", SCENE_NETWORKS)
def test_shipped_weights_have_their_record_beside_them(name):
    record = json.loads((WEIGHTS / f"{name}.json").read_text())
    assert record["command"] == f"python -m utils.train {name} --seed {record['seed']}"
    assert set(record["versions"]) == {"python", "torch", "numpy"}
    test = make_scenes(200, np.random.default_rng(3), "biased" if name == "biased" else "single")
    assert abs(accuracy(load_model(name), test) - record["accuracy"]) < 0.06


def test_every_network_has_a_recipe_and_starts_from_one_without():
    assert set(RECIPES) == set(SCENE_NETWORKS)
    assert all(RECIPES[recipe.start].start is None for recipe in RECIPES.values() if recipe.start)


@pytest.mark.retrain
def test_the_command_retrains_base(tmp_path, monkeypatch):
    """About four minutes of processor time."""
    from utils.report import grad_cam, pointing

    command = [sys.executable, "-m", "utils.train", "base", "--output", str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "100%" in output.stderr  # the progress bar
    shipped = load_model("base")
    monkeypatch.setattr(utils.models, "WEIGHTS", tmp_path)
    retrained = load_model("base")
    scenes = make_scenes(600, np.random.default_rng(4))
    assert abs(accuracy(retrained, scenes) - accuracy(shipped, scenes)) < 0.01
    assert accuracy(retrained, scenes) >= 0.97
    maps = grad_cam(retrained, *scenes.tensors())
    assert pointing(maps, scenes.masks, 3) >= 0.92 and pointing(maps, scenes.masks) >= 0.70
