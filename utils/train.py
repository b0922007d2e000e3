"""Train the scene networks again from their seeds: `python -m utils.train base`."""

import argparse
import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from utils.models import SCENE_NETWORKS, WEIGHTS, ImageClassifier, load_model, make_scene_network
from utils.scenes import CLASS_NAMES, Scenes, Variant, make_scenes


@dataclass(frozen=True)
class Recipe:
    """What one network is trained on, and for how long.

    Attributes:
        scenes: how many scenes of each variant.
        epochs: passes over them.
        peak_learning_rate: of the one-cycle schedule.
        start: the shipped network to finetune, or None to train from scratch.
        permute_channels: whether to shuffle each image's colour channels, which makes colour
            worthless as a cue.
        epsilon: the radius of adversarial training, in [0, 1]; 0 for none.
    """

    scenes: dict[Variant, int]
    epochs: int
    peak_learning_rate: float = 3e-3
    start: str | None = None
    permute_channels: bool = True
    epsilon: float = 0.0


RECIPES = {
    "base": Recipe({"single": 12_000}, epochs=6),
    "shape": Recipe({"random_texture": 7_200, "single": 800}, epochs=4, start="base"),
    "robust": Recipe(
        {"single": 8_000}, epochs=2, peak_learning_rate=1e-3, start="base", epsilon=4 / 255
    ),
    "biased": Recipe({"biased": 6_000}, epochs=3, permute_channels=False),
}


def fit(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    generator: torch.Generator,
    *,
    epochs: int,
    peak_learning_rate: float = 3e-3,
    permute_channels: bool = True,
    epsilon: float = 0.0,
    report: Callable[[float], None] = lambda loss: None,
) -> None:
    """Train a network in place: AdamW, one-cycle schedule, batches of 64, random flips and shifts.

    The shifts matter beyond accuracy. A feature that answers beside its object is lost where the
    object lies at the image's edge; so features learn to answer on it, and Grad-CAM points better.

    Args:
        model: gives class scores; may lie on any device, and is left in eval mode.
        images: uint8 (N, 3, H, W).
        labels: int64 (N,).
        generator: on the CPU; the only source of randomness.
        epochs, peak_learning_rate, permute_channels, epsilon: see `Recipe`.
        report: called with the loss after every step.
    """
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    steps = epochs * -(-len(images) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_learning_rate, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(64):
            inputs = _augment(images[batch], generator, permute_channels)
            inputs = (inputs.float() / 255).to(device, memory_format=torch.channels_last)
            targets = labels[batch].to(device)
            if epsilon:
                inputs = _perturb(model, inputs, targets, epsilon, generator)
            loss = F.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            report(loss.item())
    optimizer.zero_grad()
    model.eval()


def _augment(
    images: torch.Tensor, generator: torch.Generator, permute_channels: bool
) -> torch.Tensor:
    """Mirror half the images, shift each by up to 14 pixels (edges reflected), permute channels."""
    count, channels, height, width = images.shape
    shift = torch.randint(-14, 15, (count, 2), generator=generator)
    rows = _reflect(torch.arange(height) + shift[:, :1], height)
    columns = _reflect(torch.arange(width) + shift[:, 1:], width)
    flipped = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(flipped, width - 1 - columns, columns)
    order = torch.arange(channels).expand(count, -1)
    if permute_channels:
        order = torch.rand(count, channels, generator=generator).argsort(1)
    each = torch.arange(count)[:, None, None, None]
    return images[each, order[:, :, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def _reflect(index: torch.Tensor, size: int) -> torch.Tensor:
    return size - 1 - (size - 1 - index.abs()).abs()


def _perturb(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """One step of the fast gradient sign method from a random start (Wong et al. 2020)."""
    noise = epsilon * (2 * torch.rand(images.shape, generator=generator) - 1).to(images.device)
    start = (images + noise).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(start), labels), start)
    noise = (noise + 1.25 * epsilon * gradient.sign()).clamp(-epsilon, epsilon)
    return (images + noise).clamp(0, 1)


def train(name: str, seed: int, device: torch.device, *, progress: bool = False) -> ImageClassifier:
    """Train one of `SCENE_NETWORKS` by its recipe."""
    recipe = RECIPES[name]
    # Seeded by the name as well: no integer seed that a lab may choose draws these scenes.
    scene_generator = np.random.default_rng([seed, *name.encode()])
    parts = [
        make_scenes(count, scene_generator, variant) for variant, count in recipe.scenes.items()
    ]
    images = torch.from_numpy(np.concatenate([part.images for part in parts])).permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.concatenate([part.shape_class for part in parts]))
    generator = torch.Generator().manual_seed(seed)
    model = load_model(recipe.start) if recipe.start else make_scene_network(CLASS_NAMES, generator)
    with tqdm(total=recipe.epochs * -(-len(images) // 64), desc=name, disable=not progress) as bar:

        def report(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()

        fit(
            model.to(device),
            images,
            labels,
            generator,
            epochs=recipe.epochs,
            peak_learning_rate=recipe.peak_learning_rate,
            permute_channels=recipe.permute_channels,
            epsilon=recipe.epsilon,
            report=report,
        )
    return model


@torch.no_grad()
def accuracy(model: ImageClassifier, scenes: Scenes) -> float:
    """The share of scenes whose shape class gets the highest score."""
    device = next(model.parameters()).device
    images, labels = scenes.tensors()
    scores = torch.cat([model(part.to(device)).cpu() for part in images.split(256)])
    return (scores.argmax(1) == labels).float().mean().item()


def save(model: ImageClassifier, name: str, seed: int, measured: float, folder: Path) -> None:
    """Write NAME.safetensors in float16, and NAME.json: command, versions, accuracy, SHA-256."""
    state = {
        key: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for key, value in model.state_dict().items()
    }
    content = safetensors.torch.save(state)
    record = {
        "command": f"python -m utils.train {name} --seed {seed}",
        "seed": seed,
        "accuracy": round(measured, 4),
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.safetensors").write_bytes(content)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SCENE_NETWORKS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="folder to write to")
    parser.add_argument(
        "--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu"
    )
    arguments = parser.parse_args()
    model = train(arguments.name, arguments.seed, arguments.device, progress=True)
    test = make_scenes(
        2_000,
        np.random.default_rng([arguments.seed, *b"test"]),
        "biased" if arguments.name == "biased" else "single",
    )
    measured = accuracy(model, test)
    save(model, arguments.name, arguments.seed, measured, arguments.output)
    print(f"accuracy {measured:.4f} on 2,000 fresh scenes; written to {arguments.output}")


if __name__ == "__main__":
    main()
