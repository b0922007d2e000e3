"""The references of lab 02 against torch, torchvision's metadata, torchinfo and fvcore."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchinfo
import torchvision
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from walk import walk

from autograder.authoring.reference import load_reference

CONVOLUTIONS = {
    "vgg11": [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "vgg16": [64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M"],
    "vgg19": [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"],
}
PUBLISHED = {  # parameters, multiply-adds of convolutions and fully connected layers
    "alexnet": (61_100_840, 714_188_480),
    "vgg16": (138_357_544, 15_470_264_320),
    "vgg19": (143_667_240, 19_632_062_464),
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet50": (25_557_032, 4_089_184_256),
    "squeezenet1_1": (1_235_496, 349_151_936),
}


@pytest.fixture(scope="module")
def reference():
    return load_reference("02_vgg_accounting")


def network(name):
    with torch.device("meta"):
        return torchvision.models.get_model(name).eval()


def random_layers(rng, length):
    """(kernel_size, stride, dilation) of a few layers."""
    return [tuple(map(int, rng.integers(1, 5, size=3))) for _ in range(length)]


def test_output_size_is_that_of_torchs_layers(reference):
    rng = np.random.default_rng(0)
    for _ in range(300):
        k, s, p, d = (int(rng.integers(low, 6)) for low in (1, 1, 0, 1))
        n = d * (k - 1) + int(rng.integers(1, 30))
        conv = nn.Conv1d(1, 1, k, s, p, d, device="meta")
        expected = conv(torch.zeros(1, 1, n, device="meta")).shape[2]
        assert reference.output_size(n, k, s, p, d) == expected
        if 2 * p <= k:  # torch's pools allow no more
            expected = nn.functional.max_pool1d(torch.zeros(1, 1, n), k, s, p, d).shape[2]
            assert reference.output_size(n, k, s, p, d) == expected


def test_one_layer_is_as_torch_counts_it(reference):
    rng = np.random.default_rng(1)
    for _ in range(50):
        in_channels, out_channels, height, width = map(int, rng.integers(1, 20, size=4))
        kernel_size, bias = tuple(map(int, rng.integers(1, 5, size=2))), bool(rng.integers(2))
        layer = nn.Conv2d(in_channels, out_channels, kernel_size, bias=bias, device="meta")
        assert reference.conv_parameters(in_channels, out_channels, kernel_size, bias) == sum(
            parameter.numel() for parameter in layer.parameters()
        )
        shape = (1, in_channels, height + kernel_size[0] - 1, width + kernel_size[1] - 1)
        with FlopCounterMode(display=False) as counter:
            layer(torch.zeros(shape, device="meta"))
        output_shape = (out_channels, height, width)
        work = reference.conv_multiply_adds(in_channels, output_shape, kernel_size)
        assert 2 * work == counter.get_total_flops()


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_vgg_table_is_torchvisions_network(reference, name):
    table = reference.vgg_table(CONVOLUTIONS[name], [4096, 4096, 1000], (3, 224, 224))
    published = torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta
    biases = sum(shape[0] for shape, _, parameters, _ in table if parameters)
    assert sum(row[2] for row in table) + biases == published["num_params"]
    assert round(sum(row[3] for row in table) / 1e9, 3) == published["_ops"]

    info = torchinfo.summary(network(name), (1, 3, 224, 224), device="meta", verbose=0)
    kinds = ("Conv2d", "MaxPool2d", "Linear")
    layers = [layer for layer in info.summary_list if layer.class_name in kinds]
    assert [int(np.prod(layer.output_size)) for layer in layers] == [row[1] for row in table[1:]]


def test_vgg16_by_the_lectures_figures(reference):
    table = reference.vgg_table(CONVOLUTIONS["vgg16"], [4096, 4096, 1000], (3, 224, 224))
    values = [row[1] for row in table]
    assert sum(values) == 15_237_608
    assert sum(row[2] for row in table[:-3]) + 4_224 == 14_714_688  # with the 4,224 biases
    assert [row[2] + row[0][0] for row in table[-3:]] == [102_764_544, 16_781_312, 4_097_000]
    assert reference.total_with_inputs(table) == 24_352_744
    assert reference.inference_peak(values) == 2 * 3_211_264


def test_what_the_prose_says_of_one_layer(reference):
    assert reference.output_size(7, 3, 2) == reference.output_size(8, 3, 2)
    assert reference.receptive_field([(3, 1, 1)] * 3) == reference.receptive_field([(7, 1, 1)])
    assert reference.receptive_field([(3, 1, 1)] * 2) == reference.receptive_field([(5, 1, 1)])
    three = 3 * reference.conv_parameters(256, 256, (3, 3))
    assert round(100 * three / reference.conv_parameters(256, 256, (7, 7))) == 55


def test_what_the_prose_and_the_figures_say_of_vgg16(reference):
    table = reference.vgg_table(CONVOLUTIONS["vgg16"], [4096, 4096, 1000], (3, 224, 224))
    values, parameters, work = (np.array([row[n] for row in table]) for n in (1, 2, 3))
    learns = parameters > 0
    assert int(work[:-3].sum() / work.sum() * 100) == 99
    assert round(100 * parameters[-3:].sum() / parameters.sum()) == 89
    assert values[1] == values[2] == values.max()
    assert 0.4 < values[1:3].sum() / values.sum() < 0.45  # "more than two fifths"
    assert parameters.argmax() == len(table) - 3
    assert 0.73 < parameters.max() / parameters.sum() < 0.77  # "three quarters"
    convolutions = work[learns][:-3]
    assert convolutions.argmin() == 0 and max(convolutions[-3:]) < min(convolutions[1:-3])
    uses = work[learns] // parameters[learns]
    assert set(uses[:2]) == {50_176} and set(uses[-6:-3]) == {196} and set(uses[-3:]) == {1}
    assert 4 * parameters.max() // 10**6 == 411
    assert any(round(row / work[-3]) == 9 for row in work)  # "nine times the work"


@pytest.fixture(scope="module")
def four_sections():
    """What the figures of sections 1 to 4 are drawn from."""
    return walk("02_vgg_accounting", until="## 5. How far a value sees (optional)")


@pytest.fixture(scope="module")
def notebook():
    """What is there at the lab's end."""
    return walk("02_vgg_accounting")


def test_one_suspect_alone_gives_24_million_values_and_93_mib(four_sections):
    fit = [
        name
        for name, count in four_sections["suspects"].items()
        if round(count / 1e6) == 24 or round(4 * count / 2**20) == 93
    ]
    assert fit == ["outputs, and inputs of layers that learn"]
    count = four_sections["suspects"][fit[0]]
    assert round(count / 1e6) == 24 and round(4 * count / 2**20) == 93


def test_memory_through_training(four_sections):
    """It grows most in the first layers, and the gradients on their way add little at the turn."""
    kept, way_back = four_sections["kept"], four_sections["way_back"]
    first_block = len(kept) // 4
    assert kept[first_block] > kept[-1] / 2
    assert way_back[: len(kept) // 2].max() < 1.03 * kept[-1]
    assert way_back[-1] < kept[-1] / 2


def test_what_relus_places_masks_and_a_copy_cost(four_sections):
    bars = {name: np.array(kept) for name, kept in four_sections["bars"].items()}
    books, torch_keeps = bars["bytes_for_backward"], bars["PyTorch"]
    layers = four_sections["layers"]
    dropped = sum(values for kind, values in layers if kind == "dropout")
    pooled = sum(values for kind, values in layers if kind == "pool")
    # A copy of the last map, and dropout's masks as floats; places of maxima in eight bytes.
    assert torch_keeps[0] - books[0] == 4 * 512 * 7 * 7 + 4 * dropped
    assert torch_keeps[1] == 8 * pooled
    relus = books - bars["bytes_for_backward, without ReLUs"]
    alone = [n for (kind, n), (after, _) in pairwise(layers) if kind == "relu" and after == "pool"]
    alone += [
        n for (kind, n), (after, _) in pairwise(layers) if (kind, after) == ("relu", "dropout")
    ]
    assert relus[0] == 4 * sum(alone) and relus[0] > 20 * 2**20
    assert bars["PyTorch, with BatchNorm"].sum() - torch_keeps.sum() > 2 * relus.sum()


def test_squares_grow_faster_and_faster_to_nearly_the_whole_image(notebook):
    for name, side in (("vgg16", 224), ("scene_network", 64)):
        features = notebook[name].features
        places, chain = zip(*notebook["windows"](features), strict=True)
        learns = [isinstance(features[place], nn.Conv2d) for place in places]
        last = [n for n, one in enumerate(learns) if one and not any(learns[n + 1 : n + 2])]
        sizes = [notebook["receptive_field"](chain[: n + 1])[0] for n in last]  # ends of blocks
        assert (np.diff(sizes, n=2) > 0).all()
        assert 0.85 * side < sizes[-1] < side


def test_the_window_of_a_deep_layers_corner_holds_more_padding_than_picture(reference):
    layers = CONVOLUTIONS["vgg16"][:-1]
    size, _ = reference.receptive_field([(2, 2, 1) if n == "M" else (3, 1, 1) for n in layers])
    pixels = torch.ones(1, 1, 224, 224, requires_grad=True)
    output, window = pixels, torch.ones(1, 1, 3, 3) / 9
    for layer in layers:
        output = F.avg_pool2d(output, 2) if layer == "M" else F.conv2d(output, window, padding=1)
    (gradient,) = torch.autograd.grad(output[0, 0, 0, 0], pixels)
    assert 2 * gradient.count_nonzero() < size**2


def test_books_and_torchvision_agree_but_for_two_networks(notebook):
    """Which lack what the prose says that they lack."""
    lacking = {}
    for name, rows in notebook["books"].items():
        published = torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta
        assert round(sum(row[3] for row in rows) / 1e9, 3) == published["_ops"]
        if missing := published["num_params"] - sum(row[2] for row in rows):
            lacking[name] = missing
    assert len(notebook["books"]) == 18

    def parameters(name, part):
        named = notebook["network"](name).named_parameters()
        return sum(parameter.numel() for path, parameter in named if part in path)

    assert lacking == {
        "inception_v3": parameters("inception_v3", "AuxLogits"),
        "convnext_tiny": parameters("convnext_tiny", "layer_scale"),
    }
    rows = notebook["account"](network("vit_b_16"), (3, 224, 224))
    share = sum(row[2] for row in rows) / parameters("vit_b_16", "")
    assert 0.65 < share < 0.69  # "a third" is hidden


def test_resnet50_against_vgg16(notebook):
    """What the last two figures and their text say."""
    panels = notebook["panels"]
    of = {title: dict(zip(notebook["compared"], row, strict=True)) for title, row in panels.items()}
    parameters, _, kept, accuracy = of.values()
    assert accuracy["resnet50"] > accuracy["vgg16"]
    assert kept["resnet50"] > kept["vgg16"]
    assert 0.15 < parameters["resnet50"] / parameters["vgg16"] < 0.22  # "a fifth"
    newer = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.meta["_metrics"]["ImageNet-1K"]
    assert round(newer["acc@1"], 1) == 80.9
    for name in ("vgg16", "resnet50", "squeezenet1_1"):
        learning = [row for row in notebook["books"][name] if row[3]]
        positions = [int(np.prod(row[1][1:])) for row in learning]
        assert positions == sorted(positions, reverse=True)  # "maps only ever shrink"
    modules = notebook["network"]("resnet50").modules()
    assert sum(isinstance(module, nn.Conv2d) for module in modules) == 53


def test_total_with_inputs_is_what_hooks_see_go_in_and_out(reference):
    convolutions, fully_connected = [4, 8, "M", 8, "M"], [11, 5]
    layers, channels = [], 3
    for layer in convolutions:
        layers.append(nn.MaxPool2d(2) if layer == "M" else nn.Conv2d(channels, layer, 3, padding=1))
        channels = channels if layer == "M" else layer
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 3 * 4, 11), nn.Linear(11, 5))
    total = 3 * 13 * 18

    def hook(module, inputs, output):
        nonlocal total
        total += output.numel() + (inputs[0].numel() if list(module.parameters()) else 0)

    for module in model:
        if not isinstance(module, nn.Flatten):
            module.register_forward_hook(hook)
    model(torch.zeros(1, 3, 13, 18))
    table = reference.vgg_table(convolutions, fully_connected, (3, 13, 18))
    assert reference.total_with_inputs(table) == total


@pytest.mark.parametrize("inplace", [False, True])
def test_bytes_for_backward_is_what_autograd_saves(reference, inplace):
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.ReLU(inplace),
        nn.Conv2d(5, 7, 3, padding=1),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(7, 4, 3, padding=1),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 3 * 5, 9),
        nn.ReLU(inplace),
        nn.Dropout(),
        nn.Linear(9, 2),
    )
    kinds = {nn.Conv2d: "conv", nn.ReLU: "relu", nn.MaxPool2d: "pool", nn.Linear: "linear"}
    x = torch.rand(1, 3, 12, 20)
    layers, output = [("input", x.numel())], x
    for module in model:
        output = module(output)
        if not isinstance(module, nn.Flatten):
            layers.append((kinds.get(type(module), "dropout"), output.numel()))

    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(x)
    # Torch's places of maxima are int64 and, on the CPU, dropout's mask is float32: we count bytes.
    indices = sum(tensor.numel() for tensor in saved.values() if tensor.dtype == torch.int64)
    floats = sum(
        tensor.untyped_storage().nbytes() for tensor in saved.values() if tensor.is_floating_point()
    )
    dropout = 9
    assert reference.bytes_for_backward(layers) == floats - 4 * dropout + indices + dropout


def test_largest_batch_is_the_last_that_fits(reference):
    rng = np.random.default_rng(2)
    for optimizer, build in [
        ("sgd", torch.optim.SGD),
        ("momentum", lambda parameters: torch.optim.SGD(parameters, momentum=0.9)),
        ("adam", torch.optim.Adam),
    ]:
        model = nn.Linear(30, 20)
        steps = build(model.parameters())
        model(torch.rand(1, 30)).sum().backward()
        steps.step()
        state = [v for entry in steps.state.values() for v in entry.values()]
        tensors = [*model.parameters(), *(p.grad for p in model.parameters()), *state]
        # Adam's step counters, one number per tensor, are no part of the rule.
        fixed = sum(4 * t.numel() for t in tensors if torch.is_tensor(t) and t.ndim)
        for card_bytes in map(int, rng.integers(0, 60_000, size=50)):
            batch = reference.largest_batch(card_bytes, 620, 1_000, optimizer)
            assert batch == 0 or fixed + 1_000 * batch <= card_bytes
            assert fixed + 1_000 * (batch + 1) > card_bytes


def test_receptive_field_is_where_the_gradient_is(reference):
    rng = np.random.default_rng(3)
    for length in (1, 2, 3, 4):
        for _ in range(10):
            layers = random_layers(rng, length)
            size, jump = reference.receptive_field(layers)
            pixels = torch.zeros(1, 1, size + jump, dtype=torch.float64, requires_grad=True)
            output = pixels
            for kernel_size, stride, dilation in layers:
                ones = torch.ones(1, 1, kernel_size, dtype=torch.float64)
                output = nn.functional.conv1d(output, ones, stride=stride, dilation=dilation)
            assert output.shape[2] == 2
            for value, start in ((0, 0), (1, jump)):
                gradient = torch.autograd.grad(output[0, 0, value], pixels, retain_graph=True)[0]
                touched = gradient[0, 0].nonzero().flatten()
                assert touched.min() == start
                assert touched.max() == start + size - 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_account_of_torchvisions_networks(reference, name):
    model = network(name)
    rows = reference.account(model, (3, 224, 224))
    published = torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta
    parameters, multiply_adds = (sum(row[column] for row in rows) for column in (2, 3))
    assert (parameters, multiply_adds) == PUBLISHED[name]
    assert parameters == published["num_params"]
    assert round(multiply_adds / 1e9, 3) == published["_ops"]
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 224, 224, device="meta"))
    assert 2 * multiply_adds == counter.get_total_flops()
    if (
        name == "vgg16"
    ):  # outputs of all modules, ReLU and dropout included; the pool changes nothing
        outputs = {row[0]: int(np.prod(row[1])) for row in rows}
        assert sum(outputs.values()) == 28_676_072


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "mobilenet_v2", "densenet121"])
def test_account_row_for_row_as_torchinfo(reference, name):
    model = network(name)
    rows = reference.account(model, (3, 96, 128))
    info = torchinfo.summary(model, (1, 3, 96, 128), device="meta", verbose=0)
    layers = [layer for layer in info.summary_list if layer.is_leaf_layer]
    assert [row[1] for row in rows] == [tuple(layer.output_size[1:]) for layer in layers]
    assert sum(row[2] for row in rows) == info.total_params


@pytest.mark.filterwarnings("ignore")  # fvcore's own, about torch.jit
def test_account_layer_by_layer_as_fvcore(reference):
    for name in ("resnet18", "squeezenet1_1", "mobilenet_v2"):
        counts = FlopCountAnalysis(
            torchvision.models.get_model(name).eval(), torch.zeros(1, 3, 64, 96)
        )
        counts.unsupported_ops_warnings(False)
        by_module = counts.by_module_and_operator()
        for layer, _, _, multiply_adds in reference.account(network(name), (3, 64, 96)):
            operators = by_module[layer]
            assert operators.get("conv", 0) + operators.get("linear", 0) == multiply_adds, layer
