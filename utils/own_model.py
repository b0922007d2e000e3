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


def _reaches(images: torch.Tensor, scores: torch.Tensor) -> bool:
    """Whether the scores' gradient comes to the images."""
    return torch.autograd.grad(scores.sum(), images, allow_unused=True)[0] is not None
