"""One awkward network for the labs' tests: small, and with everything that real networks have."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

WIDTH = 4


class Block(nn.Module):
    """relu(x + bn2(conv2(relu(bn1(conv1(x)))))), its parts registered in another order."""

    def __init__(self, inplace: bool, twice: bool):
        super().__init__()
        self.bn2 = nn.BatchNorm2d(WIDTH, momentum=0.02)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, (3, 1), padding=(1, 0), bias=False)
        self.relu = nn.ReLU(inplace)
        self.last_relu = self.relu if twice else nn.ReLU(inplace)
        self.conv1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last_relu(x + self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))


class Bottleneck(nn.Module):
    """A block that is narrow in the middle, with bn3 last in its branch."""

    def __init__(self, inplace: bool):
        super().__init__()
        self.bn3 = nn.BatchNorm2d(WIDTH)
        self.bn1, self.bn2 = nn.BatchNorm2d(2, eps=1e-3), nn.BatchNorm2d(2)
        self.expand = nn.Conv2d(2, WIDTH, 1)
        self.squeeze = nn.Conv2d(WIDTH, 2, 1)
        self.middle = nn.Conv2d(2, 2, 3, padding=1, groups=2)
        self.relus = nn.ModuleList(nn.ReLU(inplace) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.relus[1](self.bn1(self.squeeze(x)))
        branch = self.relus[2](self.bn2(self.middle(branch)))
        return self.relus[0](self.bn3(self.expand(branch)) + x)


class Trunk(nn.Module):
    """From images (N, 3, H, W) to feature maps (N, 5, h, w), rectified."""

    def __init__(self, inplace: bool, functional: bool, twice: bool):
        super().__init__()
        self.late = nn.ModuleDict(
            {
                "rectify": nn.ReLU(inplace),
                "conv": nn.Conv2d(WIDTH, WIDTH + 1, (1, 3), padding=(0, 1)),
            }
        )
        self.across = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleDict({"b": Bottleneck(inplace), "a": Block(inplace, twice)})
        self.pool = nn.MaxPool2d((2, 3), stride=(1, 2))
        self.again = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.act = nn.ReLU(inplace)
        self.entry = nn.Sequential(
            nn.Conv2d(3, WIDTH, (3, 2), stride=(2, 1), padding=(1, 0)),
            nn.BatchNorm2d(WIDTH, momentum=0.37),
        )
        self.functional, self.twice = functional, twice

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.entry(images)
        x = F.relu(x) if self.functional else self.act(x)
        x = self.again(self.blocks["a"](self.pool(x)))
        if self.twice:
            x = self.again(self.act(x))
        x = self.across(self.blocks["b"](x).movedim(1, -1)).movedim(-1, 1)
        return self.late["rectify"](self.late["conv"](x))


class _WithGradients(nn.Module):
    """A module whose parameters keep their `.grad` when it is copied, or sent to the grader's
    sandbox; torch drops it."""

    def __getstate__(self) -> dict[str, Any]:
        gradients = {name: p.grad for name, p in self.named_parameters() if p.grad is not None}
        return {**self.__dict__, "gradients": gradients}

    def __setstate__(self, state: dict[str, Any]) -> None:
        gradients = state.pop("gradients")
        super().__setstate__(state)
        for name, gradient in gradients.items():
            self.get_parameter(name).grad = gradient


class AwkwardNetwork(_WithGradients):
    """From images (N, 3, H, W), H ≥ 5 and W ≥ 5, to class scores (N, C); see `awkward_network`.

    Its head is called `answer`, and isn't the last module. Attributes for tests, dotted names all:
        blocks: its residual blocks, in the order in which they run; each returns what has the shape
            of its input.
        maps: modules that run once and return feature maps (N, K, h, w): the last convolution,
            directly followed by a ReLU, and this ReLU.
    """

    def __init__(self, classes: int, dropout: bool, trunk: Trunk):
        super().__init__()
        self.answer = nn.Linear(2 * (WIDTH + 1), classes)
        self.drop = nn.Dropout(0.5) if dropout else nn.Identity()
        self.trunk = trunk
        self.blocks = ("trunk.blocks.a", "trunk.blocks.b")
        self.maps = ("trunk.late.conv", "trunk.late.rectify")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = F.adaptive_avg_pool2d(self.trunk(images), (2, 1))
        return self.answer(self.drop(pooled.flatten(1)))


class AwkwardParts(_WithGradients):
    """The same in two parts, model(X) = model.classifier(model.features(X)), the classifier an
    nn.Sequential with a hidden layer, BatchNorm1d, and the head, an nn.Linear, last."""

    def __init__(self, classes: int, dropout: bool, trunk: Trunk):
        super().__init__()
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d((2, 1)),
            nn.Flatten(),
            nn.Linear(2 * (WIDTH + 1), 6),
            nn.BatchNorm1d(6),
            nn.ReLU(trunk.act.inplace),
            nn.Dropout(0.5) if dropout else nn.Identity(),
            nn.Linear(6, classes),
        )
        self.features = trunk
        self.blocks = ("features.blocks.a", "features.blocks.b")
        self.maps = ("features.late.conv", "features.late.rectify")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images))


def awkward_network(
    seed: int,
    *,
    classes: int = 5,
    parts: bool = False,
    inplace: bool = False,
    functional: bool = False,
    twice: bool = True,
    dropout: bool = True,
    mixed: bool = False,
    hooks: bool = False,
    gradients: bool = False,
    dtype: torch.dtype = torch.float64,
) -> AwkwardNetwork | AwkwardParts:
    """A random network in eval mode that a function has to get right if it is right for any.

    Always there: a forward of its own, modules four deep and registered in another order than they
    run in, residual blocks (with bn2, and with bn3), kernels and strides that aren't square, a
    pool whose windows overlap, a linear layer applied to maps (N, h, w, K), grouped convolution,
    BatchNorm with momenta of its own and random statistics, and a frozen weight (the first
    convolution's). A test uses what its exercise's docstring promises, and no more.

    Args:
        seed: of all that is random in it; torch's global generator isn't touched.
        classes: C.
        parts: in two parts, `features` and `classifier`.
        inplace: all nn.ReLU modules work in place.
        functional: the first ReLU is a call of F.relu, no module.
        twice: an nn.ReLU, one inside a block, and a convolution are used at two places each.
        dropout: there is a Dropout before the head.
        mixed: some modules are in training mode, those on which the mode has no effect.
        hooks: somebody else's forward hooks hang on some modules.
        gradients: some parameters have a `.grad` already.
        dtype: of parameters and statistics.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # torch's constructors draw from the global state
        trunk = Trunk(inplace, functional, twice)
        network = (AwkwardParts if parts else AwkwardNetwork)(classes, dropout, trunk).double()
    network.eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            scale = 2 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(_normal(generator, parameter) * scale)
            if "weight" in name and parameter.ndim == 1:  # BatchNorm's, of either sign
                parameter.add_(parameter.sign())
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                mean, variance = (module.get_buffer(f"running_{name}") for name in ("mean", "var"))
                mean.copy_(_normal(generator, mean) / 2)
                variance.copy_(0.5 + _normal(generator, variance).abs())
                module.get_buffer("num_batches_tracked").fill_(7)
        # Scores of both signs that differ from image to image, and no class that always wins.
        probe = torch.rand(16, 3, 9, 8, generator=generator, dtype=torch.float64)
        scores, head = network(probe), "classifier.6" if parts else "answer"
        scale = 1.5 / scores.std(0).clamp(min=1e-3)
        network.get_parameter(f"{head}.weight").mul_(scale[:, None])
        network.get_parameter(f"{head}.bias").sub_(scores.mean(0)).mul_(scale)
    network.to(dtype)
    trunk.entry[0].weight.requires_grad_(False)
    if gradients:
        for parameter in list(network.parameters())[::2]:
            if parameter.requires_grad:
                parameter.grad = _normal(generator, parameter)
    if mixed:
        for module in (trunk.pool, trunk.blocks, trunk.late["rectify"]):
            module.training = True
    if hooks:
        trunk.blocks["a"].register_forward_hook(_look_on)
        trunk.late["conv"].register_forward_hook(_look_on)
        trunk.act.register_forward_pre_hook(_look_on)
    return network


def _normal(generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)


def _look_on(*_: Any) -> None:
    """A hook that does nothing."""
