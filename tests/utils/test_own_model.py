import pytest
import torch
from torch import nn

from utils.own_model import own_classifier

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
