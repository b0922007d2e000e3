"""Maps of what in an image matters to a score, for labs that build on them."""

import torch
from torch import nn


def guided_backprop(X: torch.Tensor, y: torch.Tensor, model: nn.Module) -> torch.Tensor:
    """Guided backprop (Springenberg et al., 2015): the gradient of each image's score for its class
    in y, where every ReLU passes only positive values back. Lab 07 has you write it.

    The ReLUs have to be modules that don't work in place: a call of F.relu would go unnoticed.

    Args:
        X: images, float tensor (N, 3, H, W).
        y: int64 tensor (N,).
        model: from images to class scores (N, C).

    Returns:
        Gradients, float tensor (N, 3, H, W), signed.
    """

    def rectified(
        _: nn.Module, downstream: tuple[torch.Tensor, ...] | torch.Tensor, __: object
    ) -> tuple[torch.Tensor]:
        return (downstream[0].relu(),)

    X = X.detach().clone().requires_grad_()
    handles = [
        module.register_full_backward_hook(rectified)
        for module in model.modules()
        if isinstance(module, nn.ReLU)
    ]
    try:
        score = model(X).gather(1, y[:, None]).sum()
        (gradients,) = torch.autograd.grad(score, X)
    finally:
        for handle in handles:
            handle.remove()
    return gradients
