"""Maps of what in an image matters to a score, for labs that build on them, and changed copies of
networks to compare them by: other rules in the ReLUs, layers that have forgotten their weights."""

import copy
import zlib
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.swa_utils import update_bn


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


class CustomReLU(nn.Module):
    """A ReLU module whose way back is that of a torch.autograd.Function."""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function.apply(x)


def replace_relus(model: nn.Module, function: type[torch.autograd.Function]) -> nn.Module:
    """A copy of a network in which every nn.ReLU goes back by another rule; the model itself stays
    as it is.

    Args:
        model: has nn.ReLU modules at any depth, possibly one at several places, and possibly in
            place. A call of F.relu stays what it is.
        function: from x to max(x, 0), with a backward pass of its own.
    """
    copied = copy.deepcopy(model)
    for name, module in list(copied.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.ReLU):
            copied.set_submodule(name, CustomReLU(function))
    return copied


def randomised_copy(
    model: nn.Module, names: Sequence[str], images: torch.Tensor, seed: int
) -> nn.Module:
    """A copy of a network, in eval mode, in which some layers have forgotten what they learned
    (Adebayo et al., 2018).

    Each of them starts anew, as PyTorch starts such a layer, from random numbers that depend on the
    seed and on the layer's own name only: a longer list of names changes no layer of a shorter one.
    Every BatchNorm then takes its statistics from the images, so that the signal neither dies nor
    explodes behind weights that it wasn't measured with.

    Args:
        model: a network; it is not changed itself.
        names: the layers, dotted names of modules with `reset_parameters`. None gives a plain copy.
        images: float tensor (N, 3, H, W), N > 1.
        seed: int.
    """
    device = images.device
    copied = copy.deepcopy(model).cpu().eval()  # every device gets the same numbers
    for name in names:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(f"{seed} {name}".encode()))
            copied.get_submodule(name).reset_parameters()  # type: ignore[operator]
    copied.to(device)
    if names:
        update_bn([images], copied)
    return copied
