"""The scenes: the same from a seed everywhere, and their truth true."""

import hashlib
import os
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from utils.scenes import (
    CLASS_NAMES,
    HELD_OUT_CLASS_NAMES,
    SIDE,
    SceneDataset,
    Variant,
    make_scenes,
)

VARIANTS = get_args(Variant)

# Of forty scenes from seed 0: more than a chunk of them. To change the scenes is to retrain the
# networks.
CHECKSUMS = {
    "single": "d47bc63d4c822598",
    "two_objects": "f3ad901c2ee69686",
    "cue_conflict": "983818e895653813",
    "biased": "5963c0a6d13a2c8f",
    "random_texture": "4bc45381ac097c1a",
    "held_out": "49ecd426bf5ec9f9",
}


def checksum(variant: str) -> str:
    scenes = make_scenes(40, np.random.default_rng(0), variant)
    truth = [scenes] if scenes.second is None else [scenes, scenes.second]
    digest = hashlib.sha256(scenes.images.tobytes())
    for objects in truth:
        for array in (objects.shape_class, objects.texture_class, objects.masks, objects.boxes):
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_seed_gives_the_same_scenes_for_ever(variant):
    assert checksum(variant) == CHECKSUMS[variant]


def test_scenes_do_not_depend_on_the_processor():
    """NumPy chooses other code for its functions where the processor has fewer features."""
    program = "from tests.utils.test_scenes import *; print(*map(checksum, VARIANTS))"
    features = [
        name for name, there in np._core._multiarray_umath.__cpu_features__.items() if there
    ]
    baseline = np._core._multiarray_umath.__cpu_baseline__
    disabled = " ".join(name for name in features if name not in baseline)
    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.split() == [CHECKSUMS[variant] for variant in VARIANTS]


def test_other_seeds_give_other_scenes_and_global_randomness_is_left_alone():
    before, torch_before = np.random.mtrand._rand.get_state()[1].copy(), torch.get_rng_state()
    first, second = (make_scenes(4, np.random.default_rng(seed)) for seed in (1, 2))
    assert (first.images != second.images).any()
    assert (np.random.mtrand._rand.get_state()[1] == before).all()
    assert (torch.get_rng_state() == torch_before).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_types_shapes_and_ranges(variant):
    scenes = make_scenes(33, np.random.default_rng(3), variant)
    names = HELD_OUT_CLASS_NAMES if variant == "held_out" else CLASS_NAMES
    assert len(scenes) == 33 and scenes.class_names == names
    assert scenes.images.shape == (33, SIDE, SIDE, 3) and scenes.images.dtype == np.uint8
    assert scenes.images.min() < 20 and scenes.images.max() > 235
    assert (scenes.second is not None) == (variant == "two_objects")
    for objects in filter(None, (scenes, scenes.second)):
        assert objects.masks.shape == objects.hulls.shape == (33, SIDE, SIDE)
        assert objects.masks.dtype == objects.hulls.dtype == bool
        assert objects.boxes.shape == (33, 4)
        for array in (objects.shape_class, objects.texture_class):
            assert array.dtype == np.int64 and array.shape == (33,)
        assert set(objects.shape_class) <= set(range(len(names)))
    counts = np.bincount(scenes.shape_class, minlength=len(names))
    assert counts.max() - counts.min() <= 1  # classes in equal shares


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"biased"}))
def test_masks_cover_what_the_objects_changed(variant):
    """Scenes that differ in their objects' classes alone differ in the masks, and nowhere else."""
    first, second = (
        make_scenes(32, np.random.default_rng(4), variant, shape_class=np.full(32, kind))
        for kind in (0, 4)
    )
    differs = (first.images != second.images).any(-1)
    masks = [
        objects.masks
        for scenes in (first, second)
        for objects in (scenes, scenes.second)
        if objects is not None
    ]
    covered = np.any(masks, axis=0)
    once = np.sum(masks, axis=0) == 1
    assert differs[once].mean() > 0.97
    near = binary_dilation(covered, disc(7)[None])  # for shadows; occluded parts cast a few more
    assert differs[~near].mean() < 0.003 and not near.all((1, 2)).any()
    assert min(mask.mean((1, 2)).min() for mask in masks) > 0.01


def disc(radius: int) -> np.ndarray:
    offsets = np.arange(-radius, radius + 1)
    return offsets[:, None] ** 2 + offsets**2 <= radius**2


def test_hulls_and_boxes_follow_from_the_masks():
    scenes = make_scenes(60, np.random.default_rng(5))
    for mask, hull, (left, top, right, bottom) in zip(
        scenes.masks, scenes.hulls, scenes.boxes, strict=True
    ):
        rows, columns = np.nonzero(mask)
        assert (left, top, right, bottom) == (
            columns.min(),
            rows.min(),
            columns.max() + 1,
            rows.max() + 1,
        )
        assert (hull >= mask).all() and not hull[:top].any() and not hull[:, right:].any()
    filled = scenes.hulls.sum((1, 2)) / scenes.masks.sum((1, 2))
    ring, square = (CLASS_NAMES.index(name) for name in ("ring", "square"))
    medians = [np.median(filled[scenes.shape_class == kind]) for kind in (square, ring)]
    assert medians[0] < 1.1 < medians[1]  # the ring's hole is filled


def test_two_objects_differ_and_lie_apart():
    scenes = make_scenes(100, np.random.default_rng(6), "two_objects")
    assert (scenes.shape_class != scenes.second.shape_class).all()
    assert not (scenes.masks & scenes.second.masks).any()
    centres = [
        (objects.boxes[:, :2] + objects.boxes[:, 2:]) / 2 for objects in (scenes, scenes.second)
    ]
    assert np.linalg.norm(centres[0] - centres[1], axis=1).min() > 18


def test_shape_and_texture_agree_only_where_the_variant_says_so():
    agree = {}
    for variant in VARIANTS:
        scenes = make_scenes(200, np.random.default_rng(7), variant)
        agree[variant] = (scenes.shape_class == scenes.texture_class).mean()
    assert agree.pop("cue_conflict") == 0
    assert 0.03 < agree.pop("random_texture") < 0.2
    assert set(agree.values()) == {1}


def background_hues(scenes):
    """Median hue outside the object, in turns."""
    from skimage.color import rgb2hsv

    return np.array(
        [
            np.median(rgb2hsv(image)[~mask][:, 0])
            for image, mask in zip(scenes.images, scenes.masks, strict=True)
        ]
    )


def test_the_background_tells_the_class_in_biased_scenes_alone():
    for variant, told in (("biased", True), ("single", False)):
        scenes = make_scenes(64, np.random.default_rng(8), variant)
        known = scenes.shape_class > 0  # red's hue wraps around
        right = (background_hues(scenes) * 10).round() == scenes.shape_class
        assert (right[known].mean() > 0.9) == told


def test_classes_can_be_asked_for():
    wanted = np.array([3, 3, 0, 9])
    scenes = make_scenes(4, np.random.default_rng(9), shape_class=wanted)
    assert (scenes.shape_class == wanted).all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"variant": "three_objects"},
        {"shape_class": np.array([0, 1])},
        {"shape_class": np.array([0, 1, 10])},
        {"variant": "held_out", "shape_class": np.array([0, 1, 5])},
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments):
    with pytest.raises(ValueError):
        make_scenes(3, np.random.default_rng(0), **arguments)


def test_indexing_takes_the_truth_along():
    scenes = make_scenes(12, np.random.default_rng(10), "two_objects")
    chosen = scenes[np.array([7, 2])]
    assert len(chosen) == 2
    assert (chosen.images == scenes.images[[7, 2]]).all()
    assert (chosen.second.masks == scenes.second.masks[[7, 2]]).all()
    assert (chosen.boxes == scenes.boxes[[7, 2]]).all()
    assert (scenes[:3].shape_class == scenes.shape_class[:3]).all()


def test_tensors_and_data_set_agree():
    scenes = make_scenes(5, np.random.default_rng(11))
    images, labels = scenes.tensors()
    assert (
        images.dtype == torch.float32
        and images.shape == (5, 3, SIDE, SIDE)
        and labels.dtype == torch.int64
    )
    assert images[2, 1, 30, 7] == scenes.images[2, 30, 7, 1] / np.float32(255)
    dataset = SceneDataset(scenes, transform=lambda image: image.flip(2))
    batches = list(torch.utils.data.DataLoader(dataset, batch_size=5))
    assert torch.equal(batches[0][0], images.flip(3)) and torch.equal(batches[0][1], labels)
    image, label = SceneDataset(scenes)[3]
    assert torch.equal(image, images[3]) and label == labels[3]
