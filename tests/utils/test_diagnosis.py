"""Tests of utils.diagnosis: mistakes are named rightly, and never by coincidence."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import log_softmax, softmax

from utils.checks import check_close

X = np.random.default_rng(0).standard_normal((2, 3, 4))
P = np.random.default_rng(1).uniform(0.5, 3, (3, 4, 5))
MASK = np.random.default_rng(2).random((6, 6)) > 0.5


def message_of(actual, expected, **options):
    with pytest.raises(AssertionError) as failure:
        check_close(actual, expected, "f(x)", **options)
    return str(failure.value)


def cause(actual, expected, **options):
    """What check_close says behind its semicolon; "" where it names nothing."""
    _, _, said = message_of(actual, expected, **options).partition("; ")
    return said.removesuffix(".")


def edged(array, *places):
    array = array.copy()
    for place in places:
        array[place] = 0
    return array


@pytest.mark.parametrize(
    ("actual", "expected", "name"),
    [
        # in other places
        (X.swapaxes(1, 2), X, "axes 1 and 2 are swapped"),
        (X.transpose(1, 2, 0), X, "the axes are transposed to (1, 2, 0)"),
        (np.arange(9.0).reshape(3, 3).T, np.arange(9.0).reshape(3, 3), "axes 0 and 1 are swapped"),
        (
            X[..., None].transpose(0, 2, 3, 1),
            X[..., None],
            "the axes are transposed to (0, 2, 3, 1), as when channels come last",
        ),
        (np.ones((2, 5, 4, 3)), np.ones((2, 3, 5, 4)), "the axes look transposed, as when chann"),
        (np.ones((3, 2, 4)), X, "the axes look transposed"),
        (X[:, ::-1], X, "axis 1 is reversed"),
        (X[:, ::-1, ::-1], X, "axes 1 and 2 are reversed"),
        (np.roll(X, -1, 2), X, "the values are rolled by -1 along axis 2"),
        (
            np.concatenate([np.zeros((2, 1, 4)), X[:, :-1]], 1),
            X,
            "the values are shifted by 1 along axis 1, zeros come in",
        ),
        (X.reshape(4, 6), X, "the values are right, and in order: only the shape is wrong"),
        (np.sort(X), X, "the values are right, but stand in other places"),
        (MASK.T, MASK, "axes 0 and 1 are swapped"),
        (~MASK, MASK, "true and false are exchanged"),
        # edges and parts
        (edged(X, np.s_[:, -1]), X, "zeros are left in the last row"),
        (edged(X, np.s_[..., -1]), X, "zeros are left in the last column"),
        (
            edged(X, np.s_[:, -1], np.s_[..., -1]),
            X,
            "zeros are left in the last row and the last column",
        ),
        (np.pad(P[:, 1:-1, 1:-1], [(0, 0), (1, 1), (1, 1)], "edge"), P, "what is wrong lies in"),
        (np.concatenate([P[:1], P[1:] ** 1.3]), P, "only the first of 3 along axis 0 is right"),
        (np.concatenate([P[:2], P[2:] ** 1.3]), P, "only the last of 3 along axis 0 is wrong"),
        # of the batch
        (X[[0, 0]], X, "along axis 0, all of them are the first of those expected"),
        (X[[1, 1]], X, "along axis 0, all of them are the last of those expected"),
        (np.broadcast_to(P.mean(0), P.shape), P, "along axis 0, all of them are their mean"),
        (np.broadcast_to(P.sum(0), P.shape), P, "along axis 0, all of them are their sum"),
        (np.cumsum(P, 0), P, "along axis 0, each is added to those before it"),
        (P[0], P, "only the first along axis 0 is there"),
        (P[-1], P, "only the last along axis 0 is there"),
        (P.sum(0), P, "it is the sum over axis 0"),
        (P.mean((1, 2)), P, "it is the mean over axes 1, 2"),
        (P.max(1), P, "it is the maximum over axis 1"),
        (P.mean(), P, "it is the mean over all values"),
        (float(X.sum()), X, "it is the sum over all values"),
        (P, P.sum(1), "the sum over axis 1 is missing"),
        (P, P.mean(), "the mean over all values is missing"),
        # axes
        (X[0], X[:1], "axis 0, of length 1, is missing"),
        (X[:, None], X, "axis 1, of length 1, is one too many"),
        (-X[:, None], X, "axis 1, of length 1, is one too many, and the sign is reversed"),
        (np.ones((3, 3)), np.arange(3.0), "as when shapes (N, 1) and (N,) are combined, which gi"),
        (512, np.array([64, 224, 224]), "axis 0, of length 3, is missing"),
        (np.ones((3, 4)), P, "axis 2, of length 5, is missing"),
        # values
        (np.zeros_like(X), X, "every value is zero"),
        (-X, X, "the sign is reversed"),
        (-0.7316390214, 0.7316390214, "the sign is reversed"),
        (X / 12, X, "every value is 1/12 of the expected one, like a mean for a sum"),
        (X * 3, X, "every value is 3 times the expected one, like a sum for a mean"),
        (0.7316390214 * 3, 0.7316390214, "every value is 3 times the expected one, like a sum"),
        (X * -2.5, X, "every value is -2.5 times the expected one"),
        (X * 255, X, "every value is 255 times the expected one, like pixels from 0 to 255"),
        (X / 255, X, "every value is 1/255 of the expected one"),
        (np.degrees(X), X, "every value is 57.2958 times the expected one, in degrees"),
        (X + 1.25, X, "every value is 1.25 more than expected"),
        (np.arange(6) - 1, np.arange(6), "every value is 1 less than expected"),
        (abs(X), X, "the absolute value is taken"),
        (X, abs(X), "the absolute value is missing"),
        (X.clip(0), X, "negative values are set to zero"),
        (X, X.clip(0), "negative values are not set to zero"),
        (X.clip(-0.5, 0.4), X, "values below -0.5 and above 0.4 are clipped to it"),
        (X, X.clip(max=0.2), "values above 0.2 are not clipped to it"),
        (X**2, X, "the values are squared"),
        (X, X**2, "the values aren't squared"),
        (np.sqrt(P), P, "the square root is taken"),
        (np.log(P), P, "the logarithm is taken"),
        (np.exp(X), X, "it is the exponential of what is expected"),
        (softmax(X, 1), X, "it is the softmax of what is expected, along axis 1"),
        (X, softmax(X, 2), "the softmax along axis 2 is missing"),
        (X, log_softmax(X, 2), "the log-softmax along axis 2 is missing"),
        (np.trunc(4 * X), 4 * X, "the values are cut to whole numbers"),
        (4 * X, np.rint(4 * X), "the values are not rounded to whole numbers"),
        (P / P.max(), P, "everything is divided by its maximum"),
        (P / P.sum((1, 2), keepdims=True), P, "each along axis 0 is divided by its own sum"),
        (P, P / P.max((1, 2), keepdims=True), "each along axis 0 isn't divided by its own maximum"),
        (P - P.mean(), P, "everything has its mean subtracted"),
        # not numbers
        (np.where(X > 1, np.nan, X), X, "3 of 24 values are NaN, as from 0 / 0, or from the root"),
        (np.where(X > 1, -np.inf, X), X, "3 of 24 values are infinite, as from a division by 0"),
        (X * 1j, X, "the values are complex where real ones belong"),
        (MASK * 1j, MASK, "the values are complex where real ones belong"),
        (X - 2j, X + 2j, "it is the complex conjugate"),
        # two at once
        (3 * abs(X), X, "the absolute value is taken, and every value is 3 times that"),
        (-P.mean(0), P, "it is the mean over axis 0, and the sign is reversed"),
        (2 * X.swapaxes(1, 2), X, "axes 1 and 2 are swapped, and every value is 2 times that"),
        (abs(X).sum(0), X, "the absolute value is taken, and it is the sum over axis 0"),
        (np.rot90(P[0]), P[0], "axes 0 and 1 are swapped, and axis 0 is reversed"),
    ],
)
def test_everyday_mistakes_are_named(actual, expected, name):
    assert cause(actual, expected).startswith(name)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (7.5, 2.5),
        (2.25, 1.5),
        (-3, 3),
        (np.array([0.0, 4.0]), np.array([0.0, 2.0])),
        (np.array([4, 2]), np.array([2, 4])),
        (np.array([1.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])),
        (np.full(50, 6), np.full(50, 2)),
        (np.full(50, 4.0), np.full(50, 2.0)),
        (4 * MASK, 2 * MASK),
        (edged(X, np.unravel_index(X.argmin(), X.shape)), X),
        (X * 1.1 + 0.3, X),
        (np.where(X > 1, 0.9, X), X),
    ],
)
def test_a_few_plain_numbers_prove_nothing(actual, expected):
    assert cause(actual, expected) == ""


def test_everyday_names_never_outrank_a_listed_one():
    assert cause(-X, X, mistakes={"the step goes down": -X}) == "it looks as if the step goes down"


def test_of_equal_mistakes_the_first_is_named():
    mistakes = {"one": X + 1, "another": X + 1 + 1e-13}
    assert cause(X + 1, X, mistakes=mistakes) == "it looks as if one"


def test_of_mistakes_that_differ_the_nearest_is_named_or_none():
    mistakes = {"one": X + 1, "another": X + 1.002}
    options = {"mistakes": mistakes, "tolerance": 1e-3}
    assert cause(X + 1.00199, X, **options) == "it looks as if another"
    assert cause(X + 1.00001, X, **options) == "it looks as if one"
    assert cause(X + 1.001, X, **options) == "every value is 1.001 more than expected"


def test_a_mistake_that_is_right_on_this_input_is_never_named():
    mistakes = {"nothing is wrong": X + 9e-4}
    wrong = X + 2e-3 * np.cos(9 * X)
    assert cause(wrong, X, mistakes=mistakes, tolerance=4e-4) == ""


def test_a_listed_mistake_and_one_of_every_day():
    mistakes = {"the kernel is flipped": np.sin(X), "the bias is missing": np.tan(X)}
    assert cause(-np.sin(X), X, mistakes=mistakes) == (
        "it looks as if the kernel is flipped, and the sign is reversed"
    )
    assert cause(np.sin(X).sum(0), X, mistakes=mistakes) == (
        "it looks as if the kernel is flipped, and it is the sum over axis 0"
    )
    assert cause(np.tan(X) / 3, X, mistakes=mistakes) == (
        "it looks as if the bias is missing, and every value is 1/3 of that, like a mean for a sum"
    )


def test_two_listed_mistakes_that_explain_it_alike_are_not_named():
    mistakes = {"one": np.sin(X), "another": 3 * np.sin(X)}
    assert "looks as if" not in cause(6 * np.sin(X), X, mistakes=mistakes)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_whatever_comes_gets_one_sentence_and_no_warning(data):
    dtypes = st.sampled_from(["f8", "f4", "f2", "i8", "u1", "?", "c16"])
    shapes = arrays.array_shapes(min_dims=0, max_dims=4, max_side=3)
    pair = [data.draw(arrays.arrays(data.draw(dtypes), data.draw(shapes))) for _ in range(2)]
    with warnings.catch_warnings(action="error"):
        try:
            check_close(*pair, "f(x)", mistakes={"one": pair[1].copy(), "another": np.arange(3.0)})
        except AssertionError as failure:
            assert str(failure).startswith("f(x): expected ")
            assert "\n" not in str(failure)


@pytest.mark.parametrize("shape", [(1,) * 32, (2,) * 12, (3_000_000,), (1500, 2000)])
def test_what_is_too_much_to_look_into_takes_no_time(shape):
    huge = np.ones(shape)
    check_close(huge, huge, "f(x)")
    assert "expected" in message_of(huge, X)
    assert "expected" in message_of(X, huge)


SHAPES = st.sampled_from(
    [
        (1, 3, 4),
        (2, 3, 4),
        (3, 3, 3),
        (2, 2, 3, 5),
        (1, 2, 4, 4),
        (3, 5),
        (1, 6),
        (3,),
        (7,),
        (2, 2),
    ]
)
DTYPES = st.sampled_from([np.float64, np.float32])
SEEDS = st.integers(0, 2**32 - 1)
# What is said of where the wrong values are is true, whatever the cause.
PLACES = ("the values are right, but stand", "only the ", "what is wrong lies in")


def draw(seed, shape, dtype, positive=False):
    generator = np.random.default_rng(seed)
    values = generator.uniform(0.1, 2, shape) if positive else generator.standard_normal(shape)
    return values.astype(dtype), generator


def one_more(array, generator):
    changed = array.copy()
    changed.flat[generator.integers(array.size)] += generator.uniform(0.1, 1)
    return changed


def noisy_part(array, generator):
    changed = array.copy()
    changed[-1] += generator.standard_normal(array.shape[1:])
    return changed


UNLISTED = {
    "noise": lambda x, g: x + (0.1 * g.standard_normal(x.shape)).astype(x.dtype),
    "another array": lambda x, g: g.standard_normal(x.shape).astype(x.dtype),
    "another array of another shape": lambda x, g: g.standard_normal((*x.shape, 2)),
    "one array less": lambda x, g: g.standard_normal(x.shape[1:]),
    "one value": one_more,
    "one part": noisy_part,
    "a curve": lambda x, g: (x + 0.1 * np.sin(3 * x)).astype(x.dtype),
    "values by chance zero": lambda x, g: x * (g.random(x.shape) > 0.5),
}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SEEDS, SHAPES, DTYPES, st.booleans(), st.sampled_from(sorted(UNLISTED)))
def test_what_is_no_mistake_of_every_day_is_never_named_so(seed, shape, dtype, positive, kind):
    target, generator = draw(seed, shape, dtype, positive)
    result = UNLISTED[kind](target, generator)
    assume(result.shape != shape or abs(result - target).max() > 1e-3)
    mistakes = {"one": target**3, "another": np.cos(target)}
    said = cause(result, target, mistakes=mistakes)
    if result.shape == shape and kind != "values by chance zero":
        assert said == "" or said.startswith(PLACES)
    elif result.shape != shape:
        assert said == "" or said.startswith(("axis ", "the axes look", "as when shapes (N, 1)"))
        assert "reversed" not in said and ", and " not in said
    else:
        assert "looks as if" not in said


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SEEDS, SHAPES, DTYPES)
def test_a_permutation_is_named_only_for_what_it_is(seed, shape, dtype):
    target, generator = draw(seed, shape, dtype)
    result = generator.permutation(target.ravel()).reshape(shape)
    assume((result != target).any())
    said = cause(result, target)
    if said.endswith("swapped") and ", " not in said:
        assert any(
            np.array_equal(result, target.swapaxes(*axes))
            for axes in np.ndindex(target.ndim, target.ndim)
        )
    elif not any(word in said for word in ("swapped", "reversed", "rolled")):
        assert said == "" or said.startswith(PLACES)


MISTAKES = {
    "the sign is reversed": lambda x: -x,
    "the absolute value is taken": np.abs,
    "the values are squared": np.square,
    "negative values are set to zero": lambda x: x.clip(0),
    "more than expected": lambda x: x + x.dtype.type(1.25),
    "every value is 1/3 of": lambda x: x / 3,
    "every value is 255 times": lambda x: 255 * x,
    "axis 0 is reversed": lambda x: x[::-1],
    "it is the sum over a": lambda x: x.sum(0),
    "over all values": lambda x: x.mean(),
    "all of them are the first": lambda x: np.broadcast_to(x[:1], x.shape),
    "each is added to those before": lambda x: np.cumsum(x, 0, x.dtype),
    "zeros are left in the last column": lambda x: edged(x, np.s_[..., -1]),
    "it is the softmax": lambda x: softmax(x, -1),
    "of length 1, is one too many": lambda x: x[None],
    "are clipped": lambda x: x.clip(-0.3, 0.3),
}


@settings(max_examples=50, deadline=None, derandomize=True)
@given(SEEDS, SHAPES, DTYPES, st.sampled_from(sorted(MISTAKES)))
def test_an_everyday_mistake_is_named_rightly_or_not_at_all(seed, shape, dtype, name):
    target, _ = draw(seed, shape, dtype)
    result = MISTAKES[name](target)
    assume(result.shape != shape or abs(result - target).max() > 1e-3)
    said = cause(result, target)
    handful = target.size >= 7 and dtype == np.float64 and shape[0] > 1
    assert name in said or not handful or name in ("are clipped",), said
    # Short arrays may leave two readings, or none; a wrong one alone is never given.
    true = ("axis 0, of length ", "every value is zero", *PLACES)
    assert name in said or said == "" or said.startswith(true), said
