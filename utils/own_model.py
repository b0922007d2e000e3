"""A student's own network: named in the notebook, and tried before a figure is drawn with it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def own_classifier(model: Any, images: torch.Tensor) -> Callable[..., torch.Tensor] | None:
    """A student's network if it can be asked about these images, in eval mode and on their device.

    Args:
        model: whatever stands in the notebook as MY_MODEL: a module or a function from images
            (N, 3, H, W) in [0, 1] to class scores (N, K), or None where there is none.
        images: float tensor (N, 3, H, W), with which it is tried once.

    Returns:
        model; or None where there is none, where it gives no such scores, or where these have no
        gradient for the images: one printed sentence says which. Nothing is raised.
    """
    if model is None:
        print("MY_MODEL is None: put a network of yours there, and this cell asks it.")
        return None
    problem = _problem(model, images)
    if problem:
        print(f"MY_MODEL {problem}.")
        return None
    return model


def own_layer(layer: Any, model: Callable[..., torch.Tensor], images: torch.Tensor) -> Any:
    """A layer of a student's network if its maps can be asked.

    Args:
        layer: whatever stands in the notebook as MY_LAYER: a module that runs once in the model and
            gives maps (N, K, h, w), or None where there is none.
        model: what own_classifier returned for these images.
        images: float tensor (N, 3, H, W), with which it is tried once.

    Returns:
        layer; or None where one printed sentence says what is wrong with it. Nothing is raised.
    """
    problem = _layer_problem(layer, model, images)
    if problem:
        print(f"MY_LAYER {problem}.")
        return None
    return layer


def _problem(model: Any, images: torch.Tensor) -> str:
    """What keeps it from being asked, as a sentence without its subject; empty if nothing does."""
    if not callable(model):
        return f"is of type {type(model).__name__}: a network can be called with images"
    asked, expected = f"images {tuple(images.shape)}", f"scores ({len(images)}, K)"
    images = images.detach().clone().requires_grad_()
    try:
        if isinstance(model, nn.Module):
            model.eval().to(images.device)
        scores = model(images)
        if not isinstance(scores, torch.Tensor):
            return f"gives a {type(scores).__name__} for {asked}: expected {expected}"
        if scores.ndim != 2 or len(scores) != len(images):
            return f"gives a tensor {tuple(scores.shape)} for {asked}: expected {expected}"
        # Weights alone can make scores require a gradient, which then doesn't come to the images.
        if not scores.requires_grad or not _reaches(images, scores):
            return "gives scores without a gradient for the images, cut by no_grad() or detach()"
    except Exception as error:  # anything may stand there, and anything be raised
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        return f"fails for {asked}, with {type(error).__name__}: {reason}"
    return ""


def _layer_problem(layer: Any, model: Callable[..., torch.Tensor], images: torch.Tensor) -> str:
    """What keeps it from being asked, as a sentence without its subject; empty if nothing does."""
    if not isinstance(layer, nn.Module):
        kind = "None" if layer is None else f"of type {type(layer).__name__}"
        return f"is {kind}: put a module of MY_MODEL there, such as MY_MODEL.layer4"
    given: list[Any] = []
    handle = layer.register_forward_hook(lambda _, __, output: given.append((output, _age(output))))
    try:
        scores = model(images.detach().clone().requires_grad_())
    finally:
        handle.remove()
    if len(given) != 1:
        return f"runs {len(given)} times when MY_MODEL is asked: it has to run once"
    maps, age = given[0]
    expected = f"maps ({len(images)}, K, h, w) of more than one place"
    if not isinstance(maps, torch.Tensor):
        return f"gives a {type(maps).__name__}: expected {expected}"
    if maps.ndim != 4 or len(maps) != len(images) or maps[0, 0].numel() < 2:
        return f"gives a tensor {tuple(maps.shape)}: expected {expected}"
    if _age(maps) != age:
        return "is overwritten by a module behind it: set that one's `inplace` to False"
    if not maps.requires_grad or not _reaches(maps, scores):
        return "gives maps on which no score depends"
    return ""


def _age(output: Any) -> int:
    """How often a tensor has been changed in place."""
    return output._version if isinstance(output, torch.Tensor) else 0


def _reaches(images: torch.Tensor, scores: torch.Tensor) -> bool:
    """Whether the scores' gradient comes to the images."""
    return torch.autograd.grad(scores.sum(), images, allow_unused=True)[0] is not None
