"""Lab 01's reference implementations against PyTorch, SciPy and the adjoint identity."""

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F
from walk import walk

from autograder.authoring.reference import load_reference
from utils.checks import eval_numerical_gradient_array, rel_error

reference = load_reference("01_convolution")

# (N, C, H, W), (F, kH, kW), stride, pad; the stride always divides H + 2·pad − kH and its like.
LAYERS = [
    ((2, 3, 5, 7), (4, 3, 3), 1, 0),
    ((2, 3, 5, 7), (4, 3, 3), 1, 1),
    ((2, 3, 5, 7), (4, 3, 3), 2, 1),
    ((3, 2, 6, 5), (5, 2, 3), 2, 1),
    ((1, 1, 4, 4), (1, 4, 4), 1, 0),
    ((3, 4, 4, 7), (2, 1, 1), 3, 0),
    ((2, 3, 3, 6), (5, 3, 2), 1, 2),
    ((2, 1, 8, 5), (3, 2, 5), 3, 0),
    ((1, 5, 2, 3), (2, 4, 5), 1, 3),
]
# (N, C, H, W), (pool height, pool width), stride
POOLS = [
    ((2, 3, 6, 8), (2, 2), 2),
    ((2, 3, 7, 9), (3, 3), 2),
    ((1, 2, 5, 8), (3, 2), 1),
    ((3, 1, 4, 7), (1, 1), 3),
    ((2, 2, 3, 9), (1, 5), 2),
    ((1, 1, 4, 3), (4, 3), 1),
]


def assert_agrees(actual, expected):
    """Agreement to 1e-12 of the largest expected value, in float64 and in shape."""
    expected = np.asarray(expected)
    assert actual.dtype == np.float64
    assert actual.shape == expected.shape
    assert np.max(np.abs(actual - expected)) <= 1e-12 * np.max(np.abs(expected))


def random_layer(x_shape, w_shape, stride, pad):
    """A layer's x, w, b and conv_param, and an upstream gradient of its output's shape."""
    rng = np.random.default_rng(0)
    filters, *kernel_shape = w_shape
    x = rng.standard_normal(x_shape)
    w, b = rng.standard_normal((filters, x_shape[1], *kernel_shape)), rng.standard_normal(filters)
    H_out, W_out = (np.array(x_shape[2:]) + 2 * pad - kernel_shape) // stride + 1
    dout = rng.standard_normal((x_shape[0], filters, H_out, W_out))
    return x, w, b, {"stride": stride, "pad": pad}, dout


@pytest.mark.parametrize("shape", [(5, 7), (4, 4), (9, 3)])
@pytest.mark.parametrize("kernel_shape", [(1, 1), (2, 3), (4, 3), (3, 1)])
def test_correlation_and_convolution_against_scipy(shape, kernel_shape):
    rng = np.random.default_rng(1)
    x, kernel = rng.standard_normal(shape), rng.standard_normal(kernel_shape)
    assert_agrees(
        reference.cross_correlate2d(x, kernel), scipy.signal.correlate2d(x, kernel, mode="valid")
    )
    assert_agrees(reference.convolve2d(x, kernel), scipy.signal.convolve2d(x, kernel, mode="full"))
    assert_agrees(reference.convolve2d(kernel, x), scipy.signal.convolve2d(x, kernel, mode="full"))


@pytest.mark.parametrize(
    ("shape", "kernel_shape"), [((2, 5, 7), (3, 2)), ((3, 4, 4), (4, 1)), ((1, 3, 5), (1, 1))]
)
def test_the_two_identities_against_autograd(shape, kernel_shape):
    rng = np.random.default_rng(2)
    x, kernel = (torch.tensor(rng.standard_normal(s)) for s in (shape, kernel_shape))
    x.requires_grad_()
    kernel.requires_grad_()
    y = torch.nn.functional.conv2d(x[:, None], kernel[None, None])[:, 0]
    dout = torch.tensor(rng.standard_normal(y.shape))
    dx, dkernel = torch.autograd.grad(y, (x, kernel), dout)
    x, kernel = x.detach().numpy(), kernel.detach().numpy()
    assert_agrees(reference.kernel_gradient(x, dout.numpy()), dkernel)
    assert_agrees(reference.input_gradient(dout.numpy(), kernel), dx)


@pytest.mark.parametrize(("x_shape", "w_shape", "stride", "pad"), LAYERS)
def test_forward_against_conv2d(x_shape, w_shape, stride, pad):
    x, w, b, conv_param, _ = random_layer(x_shape, w_shape, stride, pad)
    tensors = (torch.tensor(array) for array in (x, w, b))
    expected = torch.nn.functional.conv2d(*tensors, stride=stride, padding=pad)
    out, cache = reference.conv_forward_naive(x, w, b, conv_param)
    assert_agrees(out, expected)
    assert all(part is given for part, given in zip(cache, (x, w, b, conv_param), strict=True))
    columns = reference.im2col(x, *w.shape[2:], stride, pad)
    assert_agrees(reference.conv_forward_matmul(columns, w, b).reshape(out.shape), expected)


@pytest.mark.parametrize(("x_shape", "w_shape", "stride", "pad"), LAYERS)
def test_backward_against_convolution_backward(x_shape, w_shape, stride, pad):
    x, w, b, conv_param, dout = random_layer(x_shape, w_shape, stride, pad)
    dx, dw, db = torch.ops.aten.convolution_backward(
        torch.tensor(dout),
        torch.tensor(x),
        torch.tensor(w),
        b.shape,
        stride=[stride, stride],
        padding=[pad, pad],
        dilation=[1, 1],
        transposed=False,
        output_padding=[0, 0],
        groups=1,
        output_mask=[True, True, True],
    )
    cache = (x, w, b, conv_param)
    assert_agrees(reference.conv_backward_input(dout, cache), dx)
    assert_agrees(reference.conv_backward_kernel(dout, cache), dw)
    assert_agrees(reference.conv_backward_bias(dout), db)
    for actual, expected in zip(
        reference.conv_backward_naive(dout, cache), (dx, dw, db), strict=True
    ):
        assert_agrees(actual, expected)

    kernel_shape, flat_dout = w.shape[2:], dout.reshape(*dout.shape[:2], -1)
    columns = reference.im2col(x, *kernel_shape, stride, pad)
    dcolumns, matmul_dw, matmul_db = reference.conv_backward_matmul(flat_dout, columns, w)
    assert_agrees(reference.col2im(dcolumns, x.shape, *kernel_shape, stride, pad), dx)
    assert_agrees(matmul_dw, dw)
    assert_agrees(matmul_db, db)


@pytest.mark.parametrize(("x_shape", "w_shape", "stride", "pad"), LAYERS)
def test_backward_is_the_adjoint_of_forward(x_shape, w_shape, stride, pad):
    x, w, b, conv_param, dout = random_layer(x_shape, w_shape, stride, pad)
    out, cache = reference.conv_forward_naive(x, w, np.zeros_like(b), conv_param)
    dx, dw, _ = reference.conv_backward_naive(dout, cache)
    scale = np.linalg.norm(out) * np.linalg.norm(dout)
    assert abs(np.vdot(out, dout) - np.vdot(x, dx)) <= 1e-12 * scale
    assert abs(np.vdot(out, dout) - np.vdot(w, dw)) <= 1e-12 * scale


@pytest.mark.parametrize(("x_shape", "w_shape", "stride", "pad"), LAYERS)
def test_im2col_and_col2im_against_unfold_and_fold(x_shape, w_shape, stride, pad):
    x, w, *_ = random_layer(x_shape, w_shape, stride, pad)
    kernel_shape = w.shape[2:]
    columns = reference.im2col(x, *kernel_shape, stride, pad)
    expected = torch.nn.functional.unfold(torch.tensor(x), kernel_shape, stride=stride, padding=pad)
    assert_agrees(columns, expected)
    weights = np.random.default_rng(3).standard_normal(columns.shape)
    expected = torch.nn.functional.fold(
        torch.tensor(weights), x_shape[2:], kernel_shape, stride=stride, padding=pad
    )
    assert_agrees(reference.col2im(weights, x_shape, *kernel_shape, stride, pad), expected)


@pytest.mark.parametrize(("x_shape", "window", "stride"), POOLS)
def test_max_pooling_against_torch(x_shape, window, stride):
    rng = np.random.default_rng(4)
    x = torch.tensor(rng.standard_normal(x_shape) - 3, requires_grad=True)
    expected = torch.nn.functional.max_pool2d(x, window, stride)
    dout = torch.tensor(rng.standard_normal(expected.shape))
    (dx,) = torch.autograd.grad(expected, x, dout)
    pool_param = {"pool_height": window[0], "pool_width": window[1], "stride": stride}
    out, cache = reference.max_pool_forward_naive(x.detach().numpy(), pool_param)
    assert_agrees(out, expected.detach())
    assert_agrees(reference.max_pool_backward_naive(dout.numpy(), cache), dx)


def test_gradients_against_central_differences():
    x, w, b, conv_param, dout = random_layer((2, 3, 5, 7), (4, 3, 3), 2, 1)
    dx, dw, db = reference.conv_backward_naive(dout, (x, w, b, conv_param))

    def forward(x=x, w=w, b=b):
        return reference.conv_forward_naive(x, w, b, conv_param)[0]

    assert rel_error(dx, eval_numerical_gradient_array(forward, x, dout)) <= 1e-7
    assert rel_error(dw, eval_numerical_gradient_array(lambda w: forward(w=w), w, dout)) <= 1e-7
    assert rel_error(db, eval_numerical_gradient_array(lambda b: forward(b=b), b, dout)) <= 1e-7


def test_three_layer_loss_against_torch():
    """With the lab's own layers, strides, padding and all, against autograd."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((4, 2, 6, 8)), np.array([1, 0, 2, 2])
    params = {
        "w1": rng.standard_normal((5, 2, 3, 3)),
        "b1": rng.standard_normal(5),
        "w2": rng.standard_normal((5 * 3 * 4, 3)),
        "b2": rng.standard_normal(3),
    }
    conv_param, pool_param = {"stride": 1, "pad": 1}, dict(pool_height=2, pool_width=2, stride=2)
    conv = (
        lambda x, w, b: reference.conv_forward_naive(x, w, b, conv_param),
        reference.conv_backward_naive,
    )
    pool = (
        lambda x: reference.max_pool_forward_naive(x, pool_param),
        reference.max_pool_backward_naive,
    )
    loss, grads = reference.three_layer_loss(x, y, params, conv, pool)
    variables = {name: torch.tensor(value, requires_grad=True) for name, value in params.items()}
    maps = F.conv2d(torch.tensor(x), variables["w1"], variables["b1"], padding=1)
    flat = F.max_pool2d(maps.relu(), 2).flatten(1)
    scores = flat @ variables["w2"] + variables["b2"]
    expected = F.cross_entropy(scores, torch.tensor(y))
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    gradients = torch.autograd.grad(expected, list(variables.values()))
    for name, gradient in zip(params, gradients, strict=True):
        assert_agrees(grads[name], gradient.numpy())


@pytest.fixture(scope="module")
def three_sections():
    """What the figures of sections 1 to 3 are drawn from."""
    return walk("01_convolution", until="## 4. The layer as a matrix product (optional)")


@pytest.mark.slow
def test_kernels_that_sum_to_zero_see_nothing_where_a_photograph_is_flat(three_sections):
    for kernel in three_sections["kernels"].values():
        flat = reference.cross_correlate2d(np.full((12, 12), 0.7), kernel)
        np.testing.assert_allclose(flat, 0.7 if kernel.min() >= 0 else 0, atol=1e-12)


def slope(steps, errors, lowest, highest):
    """The exponent of the power law that errors follow in the steps between two."""
    chosen = (steps > lowest) & (steps < highest)
    return np.polyfit(np.log(steps[chosen]), np.log(np.array(errors)[chosen]), 1)[0]


@pytest.mark.slow
def test_where_the_gradient_check_is_best(three_sections):
    steps, errors = three_sections["steps"], three_sections["errors"]
    assert slope(steps, errors["forward"], 1e-6, 1e-2) == pytest.approx(1, abs=0.1)
    assert slope(steps, errors["central"], 1e-4, 1e-1) == pytest.approx(2, abs=0.1)
    for name in errors:
        assert slope(steps, errors[name], 1e-14, 1e-8) == pytest.approx(-1, abs=0.2)
    assert 1e-6 < steps[np.argmin(errors["central"])] < 1e-5  # "a little below"


@pytest.mark.slow
def test_float32_leaves_a_gradient_check_four_digits(three_sections):
    """The figure's check again, but every number of the loss in float32."""
    x, directions = np.random.default_rng(4).standard_normal((12, 14)), three_sections["directions"]
    kernel = three_sections["kernels"]["vertical edges"]

    def loss(kernel, dtype):
        y = scipy.signal.correlate2d(x.astype(dtype), kernel.astype(dtype), mode="valid")
        return np.tanh(y).sum(dtype=dtype)

    def errors(dtype):
        dout = 1 - np.tanh(reference.cross_correlate2d(x, kernel)) ** 2
        exact = np.tensordot(directions, reference.kernel_gradient(x[None], dout[None]))
        slopes = [
            [
                (loss(kernel + h * d, dtype) - loss(kernel - h * d, dtype)) / dtype(2 * h)
                for d in directions
            ]
            for h in three_sections["steps"]
        ]
        return np.abs(slopes - exact).mean(axis=1) / np.abs(exact).mean()

    assert 1e-5 < errors(np.float32).min() < 1e-3
    flank = (three_sections["steps"] > 1e-8) & (three_sections["steps"] < 1e-6)
    powers = np.log10(errors(np.float32)[flank] / errors(np.float64)[flank]).mean()
    assert 8 < powers < 9.5  # "almost nine powers of ten"


@pytest.mark.slow
def test_two_ways_agree_better_than_with_the_numerical_gradient(three_sections):
    handed_out = three_sections["handed_out"]
    for name, numerical in three_sections["numerical"].items():
        assert rel_error(three_sections["collected"][name], handed_out[name]) < 1e-12
        assert 1e-12 < rel_error(handed_out[name], numerical) < 1e-8  # "eight digits or more"


@pytest.mark.slow
def test_the_layer_finds_the_secret_kernel(three_sections):
    losses, x = three_sections["losses"], three_sections["x"][0, 0]
    assert losses[10] < 0.05 * losses[0]  # "most of the error is gone in a few steps"
    assert losses[100] > 10 * losses[300]  # "the rest takes hundreds"
    assert np.abs(three_sections["w"][0, 0] - three_sections["secret"]).max() < 0.02
    assert np.corrcoef(x[:, 1:].ravel(), x[:, :-1].ravel())[0, 1] > 0.7  # "much alike"


@pytest.mark.slow
def test_max_pooling_and_digits_as_the_prose_says():
    notebook = walk("01_convolution")
    assert notebook["dx"][0, 0, 1, 1] == 4  # "the 9 wins four windows"
    assert len(notebook["pictures"]) == 1797
    assert notebook["params"]["w2"].size == 1280
    accuracies = notebook["accuracies"]
    assert accuracies[0] < 0.25 and accuracies[-1] > 0.9
    assert 0 < len(notebook["wrong"]) < 50
