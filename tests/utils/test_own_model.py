"""A student's own network is asked, or one sentence says why it can't be."""

import pytest
import torch
from torch import nn

from utils.own_model import own_classifier, own_layer

IMAGES = torch.rand(2, 3, 5, 6)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(48, 7))


def test_without_a_model_one_sentence_says_what_to_do(capsys) -> None:
    assert own_classifier(None, IMAGES) is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("MY_MODEL is None")


def test_a_network_is_put_in_eval_mode_and_does_not_see_the_images_themselves(capsys) -> None:
    model, statistics = network().train(), torch.zeros(4)
    assert own_classifier(model, IMAGES) is model and not model.training
    assert torch.equal(model[1].running_mean, statistics)
    assert not IMAGES.requires_grad and capsys.readouterr().out == ""


def test_a_function_will_do_and_so_will_frozen_weights(capsys) -> None:
    frozen = network().requires_grad_(False)

    def normalised(images):
        return frozen((images - 0.45) / 0.25)

    assert own_classifier(normalised, IMAGES) is normalised
    assert capsys.readouterr().out == ""


def without_gradient(images):
    with torch.no_grad():
        return 2 * images.flatten(1)


def detached(images):
    return network()(images.detach())


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("resnet18", "is of type str: a network"),
        (torch.zeros(2, 7), "is of type Tensor"),
        (nn.Linear(3, 7), "fails for images (2, 3, 5, 6), with RuntimeError: "),
        (nn.Linear, "fails for images (2, 3, 5, 6), with TypeError: "),
        (nn.Conv2d(3, 7, 3), "gives a tensor (2, 7, 3, 4) for images"),
        (lambda images: images.flatten(1)[:1], "gives a tensor (1, 90) for images"),
        (lambda images: (images.flatten(1), 0), "gives a tuple for images"),
        (without_gradient, "without a gradient for the images"),
        (detached, "without a gradient for the images"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_sentence(model, said, capsys) -> None:
    assert own_classifier(model, IMAGES) is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("MY_MODEL ") and said in line and line.endswith(".")


def test_a_layer_is_taken_and_left_without_a_hook(capsys) -> None:
    model = network().eval()
    assert own_layer(model[1], model, IMAGES) is model[1]
    assert not model[1]._forward_hooks and capsys.readouterr().out == ""


def overwritten() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten())


class Aside(nn.Module):
    """A layer that runs, and whose output nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.unused(images)
        return images.flatten(1)


def twice() -> nn.Module:
    shared = nn.ReLU()
    return nn.Sequential(nn.Conv2d(3, 4, 3), shared, shared, nn.Flatten())


@pytest.mark.parametrize(
    ("model", "layer", "said"),
    [
        (network(), lambda model: None, "is None: put a module of MY_MODEL there"),
        (network(), lambda model: "1", "is of type str: put a module"),
        (network(), lambda model: nn.ReLU(), "runs 0 times"),
        (twice(), lambda model: model[1], "runs 2 times"),
        (network(), lambda model: model[2], "gives a tensor (2, 48): expected maps (2, K, h, w)"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), lambda model: model[0], "one place"),
        (overwritten(), lambda model: model[0], "is overwritten by a module behind it"),
        (Aside(), lambda model: model.unused, "on which no score depends"),
    ],
)
def test_what_is_no_layer_to_ask_is_said_in_one_sentence(model, layer, said, capsys) -> None:
    assert own_layer(layer(model), model, IMAGES) is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("MY_LAYER ") and said in line and line.endswith(".")
