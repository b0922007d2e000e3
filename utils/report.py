"""Measure what the labs claim, by other people's implementations: `python -m utils.report`.

Captum explains, foolbox attacks, SciPy searches for single pixels, scikit-learn embeds and
classifies. The packages come with the `tests` extra.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import foolbox
import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop, GuidedGradCam, LayerGradCam, NoiseTunnel, Saliency
from scipy.ndimage import distance_transform_edt
from scipy.optimize import differential_evolution
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from tqdm import tqdm

from utils.corruptions import corrupt
from utils.models import ImageClassifier, load_model, make_scene_network
from utils.scenes import HELD_OUT_CLASS_NAMES, Scenes, make_scenes
from utils.train import accuracy, fit

Explain = Callable[[ImageClassifier, torch.Tensor, torch.Tensor], torch.Tensor]
"""From a network, images (N, 3, H, W) and classes (N,) to maps (N, H, W)."""


@dataclass(frozen=True)
class Row:
    """One measurement and its bar."""

    what: str
    measured: float
    relation: str
    bar: float

    @property
    def met(self) -> bool:
        return {
            "≥": self.measured >= self.bar,
            "≤": self.measured <= self.bar,
            ">": self.measured > self.bar,
            "<": self.measured < self.bar,
        }[self.relation]


# --- Explanation methods, as Captum has them ---


def grad_cam(model: ImageClassifier, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    maps = LayerGradCam(model, model.get_submodule(model.last_conv)).attribute(
        images, classes, relu_attributions=True
    )
    return F.interpolate(maps.detach(), images.shape[2:], mode="bilinear", align_corners=False)[
        :, 0
    ]


def saliency(model: ImageClassifier, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return Saliency(model).attribute(images.clone(), classes).sum(1)


def smooth_grad(
    model: ImageClassifier, images: torch.Tensor, classes: torch.Tensor
) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):  # Captum draws its noise from the global state
        torch.manual_seed(0)
        mean_gradient = NoiseTunnel(Saliency(model)).attribute(
            images.clone(), nt_samples=16, stdevs=0.05, target=classes, abs=False
        )
    return mean_gradient.abs().sum(1)


def guided_backprop(
    model: ImageClassifier, images: torch.Tensor, classes: torch.Tensor
) -> torch.Tensor:
    return GuidedBackprop(model).attribute(images.clone(), classes).detach().abs().sum(1)


def guided_grad_cam(
    model: ImageClassifier, images: torch.Tensor, classes: torch.Tensor
) -> torch.Tensor:
    method = GuidedGradCam(model, model.get_submodule(model.last_conv))
    return (
        method.attribute(images.clone(), classes, interpolate_mode="bilinear").detach().abs().sum(1)
    )


def in_batches(
    method: Explain, model: ImageClassifier, images: torch.Tensor, classes: torch.Tensor
) -> torch.Tensor:
    """The method's maps (N, H, W), 250 images at a time, as more would take gigabytes."""
    batches = zip(images.split(250), classes.split(250), strict=True)
    return torch.cat([method(model, *batch) for batch in batches])


def pointing(maps: torch.Tensor, masks: np.ndarray, tolerance: float = 0) -> float:
    """Zhang et al.'s pointing game (2016): the share of maps that peak on, or near, the mask."""
    peaks = maps.flatten(1).argmax(1).numpy()
    distances = np.stack([distance_transform_edt(~mask) for mask in masks]).reshape(len(masks), -1)
    return float((distances[np.arange(len(masks)), peaks] <= tolerance).mean())


# --- The table, a function for each of its parts. Each takes a Generator for its scenes. ---


def explanations(generator: np.random.Generator) -> Iterator[Row]:
    base, robust = load_model("base"), load_model("robust")
    # So many, since the rows to be ranked lie as close as 0.01.
    scenes = make_scenes(3_000, generator)
    yield Row("base: accuracy", accuracy(base, scenes), "≥", 0.97)

    images, labels = scenes.tensors()
    cam = in_batches(grad_cam, base, images, labels)
    yield Row("Grad-CAM: pointing, 3 px tolerance", pointing(cam, scenes.masks, 3), "≥", 0.92)
    strict = pointing(cam, scenes.masks)
    yield Row("Grad-CAM: pointing, strict", strict, "≥", 0.70)
    gradient = pointing(in_batches(saliency, base, images, labels), scenes.masks)
    yield Row("saliency: strict pointing, below Grad-CAM's", gradient, "<", strict)
    guided = pointing(in_batches(guided_backprop, base, images, labels), scenes.masks)
    yield Row("guided backprop: strict pointing, above Grad-CAM's", guided, ">", strict)
    both = pointing(in_batches(guided_grad_cam, base, images, labels), scenes.masks)
    yield Row("guided Grad-CAM: strict pointing, above guided backprop's", both, ">", guided)
    robust_pointing = pointing(in_batches(saliency, robust, images, labels), scenes.masks)
    yield Row("robust: saliency's strict pointing, above base's", robust_pointing, ">", gradient)

    yield from two_objects(base, make_scenes(300, generator, "two_objects"))
    yield from sanity_check(base, images[:100], labels[:100])


def two_objects(model: ImageClassifier, scenes: Scenes) -> Iterator[Row]:
    images, first = scenes.tensors()
    assert scenes.second is not None  # as in every scene of two objects
    second = torch.from_numpy(scenes.second.shape_class)
    maps = [grad_cam(model, images, first), grad_cam(model, images, second)]
    wrong = (pointing(maps[0], scenes.second.masks) + pointing(maps[1], scenes.masks)) / 2
    yield Row("two objects: Grad-CAM's peak on the other one", wrong, "≤", 0.03)
    yield Row("two objects: correlation of both Grad-CAMs", mean_correlation(*maps), "<", 0)
    guided = [guided_backprop(model, images, first), guided_backprop(model, images, second)]
    yield Row(
        "two objects: correlation of both guided backprops", mean_correlation(*guided), ">", 0
    )


def mean_correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Pearson's, between paired maps; pairs with a constant map have none."""
    pairs = zip(first.flatten(1), second.flatten(1), strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs if a.std() > 0 < b.std()]))


def sanity_check(
    model: ImageClassifier, images: torch.Tensor, labels: torch.Tensor
) -> Iterator[Row]:
    """Adebayo et al. 2018, with the last layer alone randomised, over five draws."""
    for name, method, relation, bar in (
        ("Grad-CAM", grad_cam, "≤", 0.45),
        ("guided backprop", guided_backprop, "≥", 0.85),
    ):
        original = method(model, images, labels)
        similarities = []
        for seed in range(5):
            randomised = load_model("base")
            weight = randomised.classifier.get_parameter("linear.weight")
            torch.nn.init.normal_(
                weight, std=weight.std().item(), generator=torch.Generator().manual_seed(seed)
            )
            maps = method(randomised, images, labels)
            pairs = zip(original.flatten(1), maps.flatten(1), strict=True)
            similarities += [spearmanr(a, b).statistic for a, b in pairs if a.any() and b.any()]
        yield Row(
            f"{name}: rank correlation, last layer randomised",
            float(np.mean(similarities)),
            relation,
            bar,
        )


def attacks(generator: np.random.Generator) -> Iterator[Row]:
    base, robust = load_model("base"), load_model("robust")
    scenes = make_scenes(1_500, generator)
    images, labels = scenes.tensors()
    pgd = foolbox.attacks.LinfPGD(steps=10, abs_stepsize=2 / 255)
    for name, model, relation, bar in (("base", base, "≤", 0.15), ("robust", robust, "≥", 0.60)):
        with torch.random.fork_rng(devices=[]):  # foolbox draws its start from the global state
            torch.manual_seed(0)
            fooled = [
                pgd(as_foolbox(model), *batch, epsilons=4 / 255)[-1]
                for batch in zip(images.split(250), labels.split(250), strict=True)
            ]
        yield Row(
            f"{name}: accuracy under PGD-10 at 4/255",
            1 - torch.cat(fooled).float().mean().item(),
            relation,
            bar,
        )

    signs = torch.from_numpy(generator.choice(np.array([-1, 1], np.float32), images.shape))
    noisy = predict(base, (images + 8 / 255 * signs).clamp(0, 1))
    clean = predict(base, images)
    lost = ((clean == labels).float().mean() - (noisy == labels).float().mean()).item()
    yield Row("base: accuracy lost to random signs at 8/255", lost, "≤", 0.01)

    right = clean == labels
    target = (labels + torch.from_numpy(generator.integers(1, 10, len(labels)))) % 10
    some = right.nonzero()[:500, 0]
    ascent = foolbox.attacks.L2PGD(steps=20, abs_stepsize=0.25, random_start=False)
    criterion = foolbox.criteria.TargetedMisclassification(target[some])
    *_, success = ascent(as_foolbox(base), images[some], criterion, epsilons=5.0)
    yield Row("base: targeted fooling within 20 steps", success.float().mean().item(), "≥", 0.95)

    with torch.no_grad():
        best = base(images).topk(2).values
    margins = (best[:, 0] - best[:, 1]).masked_fill(~right, torch.inf)
    lowest = margins.argsort()[:12]
    rate = float(np.mean([one_pixel_fools(base, images[i], int(labels[i])) for i in lowest]))
    yield Row("one pixel: the 12 lowest margins of 1,500 fooled", rate, "≥", 0.50)


def as_foolbox(model: ImageClassifier) -> foolbox.PyTorchModel:
    return foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")


@torch.no_grad()
def predict(model: ImageClassifier, images: torch.Tensor) -> torch.Tensor:
    return model(images).argmax(1)


def one_pixel_fools(model: ImageClassifier, image: torch.Tensor, label: int) -> bool:
    """Su et al.'s attack (2019): differential evolution of a pixel that minimises the margin."""
    side = image.shape[-1]

    @torch.no_grad()
    def margin(population: np.ndarray) -> np.ndarray:
        candidates = torch.from_numpy(population.T).float()
        changed = image.repeat(len(candidates), 1, 1, 1)
        row, column = candidates[:, :2].long().clamp(max=side - 1).T
        changed[torch.arange(len(candidates)), :, row, column] = candidates[:, 2:]
        scores = model(changed)
        others = scores.clone()
        others[:, label] = -torch.inf
        return (scores[:, label] - others.max(1).values).numpy().astype(float)

    bounds = [(0, side)] * 2 + [(0, 1)] * 3
    found = differential_evolution(
        margin,
        bounds,
        maxiter=30,
        popsize=40,
        tol=0,
        polish=False,
        updating="deferred",
        vectorized=True,
        rng=0,
    )
    return found.fun < 0


def corruptions(generator: np.random.Generator) -> Iterator[Row]:
    models = {name: load_model(name) for name in ("base", "shape", "robust")}
    scenes = make_scenes(500, generator)
    labels = torch.from_numpy(scenes.shape_class)
    for name, relation in (("gaussian_noise", ">"), ("fog", "<"), ("contrast", "<")):
        corrupted = [corrupt(scenes.images, name, severity, generator) for severity in range(1, 6)]
        images = torch.from_numpy(np.concatenate(corrupted)).permute(0, 3, 1, 2) / 255
        score = {
            key: (predict(model, images) == labels.repeat(5)).float().mean().item()
            for key, model in models.items()
        }
        side = "above" if relation == ">" else "below"
        yield Row(
            f"robust: accuracy under {name}, {side} base's",
            score["robust"],
            relation,
            score["base"],
        )


def biases(generator: np.random.Generator) -> Iterator[Row]:
    conflicts = make_scenes(600, generator, "cue_conflict")
    images, shapes = conflicts.tensors()
    for name, relation, bar in (("base", "≤", 0.15), ("shape", "≥", 0.85)):
        answers = predict(load_model(name), images)
        by_shape = (answers == shapes).sum().item()
        by_texture = (answers == torch.from_numpy(conflicts.texture_class)).sum().item()
        yield Row(f"{name}: shape bias", by_shape / (by_shape + by_texture), relation, bar)

    biased = load_model("biased")
    yield Row(
        "biased: accuracy on neutral scenes",
        accuracy(biased, make_scenes(600, generator)),
        "≤",
        0.25,
    )
    scenes = make_scenes(300, generator, "biased")
    images, labels = scenes.tensors()
    yield Row(
        "biased: Grad-CAM's pointing",
        pointing(grad_cam(biased, images, labels), scenes.masks),
        "≤",
        0.10,
    )
    smooth = pointing(smooth_grad(biased, images, labels), scenes.masks)
    yield Row("biased: SmoothGrad still points at the object", smooth, "≥", 0.50)


@torch.no_grad()
def embed(model: ImageClassifier, images: torch.Tensor) -> np.ndarray:
    """What the linear layer sees: features averaged over space, (N, channels)."""
    return model.features(images).mean((2, 3)).numpy()


def features(generator: np.random.Generator) -> Iterator[Row]:
    base = load_model("base")
    images, labels = make_scenes(600, generator).tensors()
    for what, points, relation, bar in (
        ("base's features", embed(base, images), "≥", 0.6),
        ("pixels", images.flatten(1).numpy(), "<", 0),
    ):
        embedded = TSNE(init="pca", random_state=0).fit_transform(points)
        yield Row(
            f"t-SNE of {what}: silhouette", float(silhouette_score(embedded, labels)), relation, bar
        )

    frozen, scratch = [], []
    test_images, test_labels = make_scenes(500, generator, "held_out").tensors()
    for _ in range(5):
        few = make_scenes(25, generator, "held_out")
        few_images, few_labels = few.tensors()
        # Of unit length, since few labels say little about lengths (Chen et al. 2019, "A Closer
        # Look at Few-shot Classification").
        probe = make_pipeline(Normalizer(), LogisticRegression(C=10, max_iter=1_000))
        probe.fit(embed(base, few_images), few_labels)
        frozen.append(probe.score(embed(base, test_images), test_labels))
        network = make_scene_network(HELD_OUT_CLASS_NAMES, torch.Generator().manual_seed(0))
        pixels = torch.from_numpy(few.images).permute(0, 3, 1, 2)
        fit(network, pixels, few_labels, torch.Generator().manual_seed(0), epochs=60)
        scratch.append((predict(network, test_images) == test_labels).float().mean().item())
    yield Row(
        "frozen features, 5 labels per held-out class: accuracy", float(np.mean(frozen)), "≥", 0.88
    )
    yield Row(
        "the same from scratch, below frozen", float(np.mean(scratch)), "<", float(np.mean(frozen))
    )

    digits = load_digits()
    pixels = torch.from_numpy(digits.images / 16 * 255).round().byte()[:, None]
    pixels = pixels.repeat_interleave(8, 2).repeat_interleave(8, 3).expand(-1, 3, -1, -1)
    train_images, test_images, train_labels, test_labels = train_test_split(
        pixels,
        torch.from_numpy(digits.target),
        train_size=500,
        stratify=digits.target,
        random_state=0,
    )
    probe = LogisticRegression(max_iter=5_000).fit(embed(base, train_images / 255), train_labels)
    score = probe.score(embed(base, test_images / 255), test_labels)
    finetune(base, train_images / 255, train_labels, torch.Generator().manual_seed(0))
    tuned = (predict(base, test_images / 255) == test_labels).float().mean().item()
    yield Row("digits: frozen features, below finetuning", score, "<", tuned)


def finetune(
    model: ImageClassifier,
    images: torch.Tensor,
    labels: torch.Tensor,
    generator: torch.Generator,
) -> None:
    """Train the whole network, 20 epochs of AdamW, on images as they are: a mirrored 2 is no 2."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(20):
        for batch in torch.randperm(len(images), generator=generator).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    model.eval()


PARTS = (explanations, attacks, corruptions, biases, features)


def measure(seed: int) -> Iterator[Row]:
    """All rows of the table. A part's scenes depend on the seed and on its place alone."""
    for index, part in enumerate(PARTS):
        yield from part(np.random.default_rng([seed, index, *b"report"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    rows = list(tqdm(measure(parser.parse_args().seed), desc="rows"))
    print("| what | measured | bar |  |\n|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.what} | {row.measured:.3f} | {row.relation} {row.bar:.3f} "
            f"| {'met' if row.met else 'MISSED'} |"
        )
    sys.exit(0 if all(row.met for row in rows) else 1)


if __name__ == "__main__":
    main()
