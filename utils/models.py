"""The networks: four trained on scenes and shipped here, and torchvision's for ImageNet."""

import hashlib
import io
import json
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from pickle import UnpicklingError

import safetensors.torch
import torch
from torch import nn

from utils.scenes import CLASS_NAMES, SIDE

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped networks: NAME.safetensors, and in NAME.json how it was trained and its SHA-256."""

SCENE_NETWORKS = ("base", "shape", "robust", "biased")

IMAGENET_NETWORKS = {
    "alexnet": "features.11",
    "squeezenet1_1": "features.12",
    "vgg16": "features.29",
    "vgg19": "features.35",
    "resnet18": "features.layer4",
    "resnet50": "features.layer4",
}
"""Torchvision's networks that `load_model` knows, each with its `last_conv`."""


class WeightsUnavailable(RuntimeError):
    """Weights can't be had, or are damaged; the message says what to do instead."""


class Normalize(nn.Module):
    """(image - mean) / std, channel by channel: a network's first module, so callers needn't.

    Gradients for images leave it contiguous, also where the network's weights are channels_last and
    hand back such gradients, which nobody can `view(N, -1)`.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images.flatten(1).view_as(images)  # backwards this lays the gradient out anew
        return (images - self.mean) / self.std


class ImageClassifier(nn.Module):
    """A convolutional network from images in [0, 1], float32 (N, 3, H, W), to class scores (N, C).

    Attributes:
        features: nn.Sequential, normalisation first, from images to the last convolutional
            features.
        classifier: nn.Sequential from those to class scores (before any softmax).
        class_names: C names.
        last_conv: dotted name of the module whose output is the last convolution's, rectified:
            Grad-CAM's layer.
        input_size: the side in pixels of the images that it was trained on.
    """

    def __init__(
        self,
        features: nn.Sequential,
        classifier: nn.Sequential,
        class_names: Sequence[str],
        last_conv: str,
        input_size: int,
    ):
        super().__init__()
        self.features = features
        self.classifier = classifier
        self.class_names = tuple(class_names)
        self.last_conv = last_conv
        self.input_size = input_size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images))


def load_model(name: str) -> ImageClassifier:
    """A trained network in eval mode, on the CPU, with ReLUs that are modules and not in place.

    Args:
        name: one of `SCENE_NETWORKS`, which need no network connection, or of `IMAGENET_NETWORKS`,
            whose weights torchvision downloads once and caches (its first published weights,
            IMAGENET1K_V1).

    Raises:
        ValueError: for any other name.
        WeightsUnavailable: where weights can't be downloaded or a file is damaged.
    """
    if name in SCENE_NETWORKS:
        model = _load_scene_network(name)
    elif name in IMAGENET_NETWORKS:
        model = _load_imagenet_network(name)
    else:
        raise ValueError(
            f"no network {name!r}: choose from {', '.join([*SCENE_NETWORKS, *IMAGENET_NETWORKS])}"
        )
    return model.eval()


def make_scene_network(class_names: Sequence[str], generator: torch.Generator) -> ImageClassifier:
    """The untrained network for scenes, in training mode, initialised from the generator.

    Six 3×3 conv-BatchNorm-ReLU, three max pools, average pooling, one linear layer: 283,674
    parameters for ten classes. Convolutions start as in He et al. (2015).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalize=Normalize([0.45] * 3, [0.25] * 3))
    channels = 3
    with torch.random.fork_rng(devices=[]):  # torch's constructors draw from the global state
        for index, width in enumerate((16, 32, 64, 64, 128, 128), start=1):
            layers[f"conv{index}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            layers[f"norm{index}"] = nn.BatchNorm2d(width)
            layers[f"relu{index}"] = nn.ReLU()
            if index in (1, 2, 4):
                layers[f"pool{index}"] = nn.MaxPool2d(2)
            channels = width
        linear = nn.Linear(channels, len(class_names))
    for layer in layers.values():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    nn.init.kaiming_normal_(linear.weight, nonlinearity="linear", generator=generator)
    nn.init.zeros_(linear.bias)
    classifier = nn.Sequential(
        OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=linear)
    )
    return ImageClassifier(nn.Sequential(layers), classifier, class_names, "features.relu6", SIDE)


def _load_scene_network(name: str) -> ImageClassifier:
    path = WEIGHTS / f"{name}.safetensors"
    try:
        content = path.read_bytes()
        expected = json.loads(path.with_suffix(".json").read_text())["sha256"]
    except FileNotFoundError as error:
        raise WeightsUnavailable(
            f"{error.filename} is missing: `python -m utils.train {name}` makes it."
        ) from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise WeightsUnavailable(
            f"{path} is damaged: restore it, or retrain with `python -m utils.train {name}`."
        )
    model = make_scene_network(CLASS_NAMES, torch.Generator())
    model.load_state_dict(safetensors.torch.load(content))  # stored as float16, copied into float32
    return model


def _load_imagenet_network(name: str) -> ImageClassifier:
    import torchvision  # takes longer than all else here; most labs and their grading do without

    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        # torch.hub announces a download on stdout or stderr; a lab's output has no place for it.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            state = weights.get_state_dict(
                progress=False, check_hash=True, map_location="cpu", weights_only=True
            )
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        # Torch checks a download's hash, but not that of a file already in its cache.
        cached = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
        reason = (
            f"{cached} is damaged, delete it and try again"
            if cached.exists()
            else f"no download: {error}"
        )
        raise WeightsUnavailable(
            f"{name}'s ImageNet weights are unavailable ({reason}); "
            "offline, load_model('base') needs no download."
        ) from error
    with torch.device(
        "meta"
    ):  # neither time nor random numbers spent on weights that are replaced at once
        network = torchvision.models.get_model(name)
    network.load_state_dict(state, assign=True)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False

    layers = OrderedDict(network.named_children())
    if "layer4" in layers:  # the residual networks have no part called features
        head = [layers.pop("avgpool"), nn.Flatten(), layers.pop("fc")]
        body = layers
    else:
        body = OrderedDict(layers["features"].named_children())
        if "avgpool" in layers:
            head = [layers["avgpool"], nn.Flatten(), *layers["classifier"]]
        else:  # SqueezeNet classifies by a convolution, then averages
            head = [*layers["classifier"], nn.Flatten()]
    transform = weights.transforms()
    features = nn.Sequential(
        OrderedDict(normalize=Normalize(transform.mean, transform.std), **body)
    )
    return ImageClassifier(
        features,
        nn.Sequential(*head),
        weights.meta["categories"],
        IMAGENET_NETWORKS[name],
        transform.crop_size[0],
    )
