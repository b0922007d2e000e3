"""Tests of utils.checks: what passes, what fails, and the one sentence it fails with."""

import numpy as np
import pytest
import torch

from utils.checks import (
    check_close,
    check_tuple,
    check_unchanged,
    eval_numerical_gradient_array,
    rel_error,
    vector_jacobian_product,
)

EXPECTED = np.random.default_rng(0).standard_normal((2, 3, 4))


def message(actual, expected=EXPECTED, **options):
    with pytest.raises(AssertionError) as failure:
        check_close(actual, expected, "f(x)", **options)
    assert "\n" not in str(failure.value)
    return str(failure.value)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (EXPECTED + 1e-11, EXPECTED),
        (EXPECTED.astype(np.longdouble), EXPECTED),
        (np.asfortranarray(EXPECTED), EXPECTED),
        (np.array([1, 2]), np.array([1.0, 2.0])),
        (np.array([np.nan, np.inf, 1.0]), np.array([np.nan, np.inf, 1.0])),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (torch.tensor([1.5, 2.0], requires_grad=True), torch.tensor([1.5, 2.0])),
        (torch.tensor([1.5], dtype=torch.bfloat16), torch.tensor([1.5], dtype=torch.bfloat16)),
        (np.float64(2.5), 2.5),
        (torch.tensor(2.5), 2.5),
        (2.5, np.array(2.5)),
        (1 + 2j, 1 + 2j),
        (15_470_264_320, 15_470_264_320),
        (np.array([True, False]), np.array([True, False])),
    ],
)
def test_what_is_right_passes(actual, expected):
    check_close(actual, expected, "f(x)")


@pytest.mark.parametrize(
    ("actual", "phrase"),
    [
        (None, "f(x) returned None; is a `return` missing?"),
        (EXPECTED.tolist(), "expected a NumPy array, got a list."),
        ((EXPECTED,), "expected a NumPy array, got a tuple."),
        (torch.from_numpy(EXPECTED), "expected a NumPy array, got a torch tensor."),
        (EXPECTED.astype(object), "expected a NumPy array, got an array of object."),
        (2.5, "expected shape (2, 3, 4), got a number."),
        (EXPECTED[0], "expected shape (2, 3, 4), got shape (3, 4)."),
        (EXPECTED.swapaxes(1, 2), "got shape (2, 4, 3); axes 1 and 2 are swapped."),
        (EXPECTED.transpose(1, 2, 0), "got shape (3, 4, 2); the axes are transposed to (1, 2, 0)."),
        (np.ones((3, 2, 4)), "got shape (3, 2, 4); the axes look transposed."),
        (np.where(EXPECTED > 1, np.nan, EXPECTED), "values are NaN."),
        (np.where(EXPECTED > 1, -np.inf, EXPECTED), "values are infinite."),
        (np.zeros_like(EXPECTED), "every value is zero."),
        (-EXPECTED, "the sign is reversed."),
        (EXPECTED.astype(np.float32), "computed in float32, which keeps fewer digits."),
        (EXPECTED.astype(int), "computed in int64, which keeps fewer digits."),
        (EXPECTED / 12, "every value is 1/12 of the expected one, like a mean for a sum."),
        (EXPECTED * 3, "every value is 3 times the expected one, like a sum for a mean."),
        (EXPECTED * -2.5, "every value is -2.5 times the expected one."),
        (EXPECTED * 1j, "24 of 24 values differ"),
    ],
)
def test_everyday_mistakes_are_named(actual, phrase):
    assert phrase in message(actual)


def test_a_difference_says_where_and_by_how_much():
    actual = EXPECTED.copy()
    actual[1, 2, 0] += 0.5
    assert message(actual) == (
        f"f(x): expected {EXPECTED[1, 2, 0]:.6g} at [1, 2, 0], got {actual[1, 2, 0]:.6g}"
        " (1 of 24 values differ, by up to 0.5)."
    )
    assert message(2.75, 2.5) == "f(x): expected 2.5, got 2.75, off by 0.25."
    assert message(np.ones(1), 2.5) == "f(x): expected a number, got shape (1,)."


def test_swapped_axes_of_a_square_are_seen():
    square = np.arange(9.0).reshape(3, 3)
    assert "axes 0 and 1 are swapped" in message(square.T, square)


def test_one_number_is_not_called_a_multiple_of_another():
    assert "every value" not in message(7.5, 2.5)


def test_integers_and_booleans_are_exact():
    assert "off by 1" in message(15_470_264_321, 15_470_264_320)
    assert "1 of 2 values differ" in message(np.array([1, 0]), np.array([True, True]))


def test_tolerance_is_relative_to_the_largest_value():
    large = np.array([1e6, 1.0])
    check_close(large + 1e-4, large, "f(x)")
    message(large + 1e-2, large)
    check_close(large + 1e-2, large, "f(x)", tolerance=1e-7)
    check_close(np.full(3, 1e-10), np.zeros(3), "f(x)")
    message(np.full(3, 1e-8), np.zeros(3))


def test_a_listed_mistake_is_named_in_the_message():
    mistakes = {
        "the kernel is flipped": EXPECTED[..., ::-1],
        "the bias is missing": lambda: EXPECTED - 1,
        "the stride is ignored": EXPECTED[:, :, ::2],
    }
    assert message(EXPECTED[..., ::-1], mistakes=mistakes).endswith(
        "; it looks as if the kernel is flipped."
    )
    assert "it looks as if the bias is missing" in message(EXPECTED - 1, mistakes=mistakes)
    assert "got shape (2, 3, 2); it looks as if the stride is ignored" in message(
        EXPECTED[:, :, ::2], mistakes=mistakes
    )
    assert "it looks as if" not in message(EXPECTED + 2, mistakes=mistakes)


def test_the_first_of_several_fitting_mistakes_is_named():
    mistakes = {"one": EXPECTED + 1, "another": EXPECTED + 1}
    assert message(EXPECTED + 1, mistakes=mistakes).endswith("it looks as if one.")


def test_a_mistake_that_is_right_on_this_input_is_never_named():
    wrong = EXPECTED + 4e-9  # within the tolerance of a mistake that is itself right
    mistake = {"nothing is wrong": EXPECTED + 2e-9}
    assert "nothing is wrong" not in message(wrong, mistakes=mistake)


def test_a_mistake_that_cannot_be_computed_is_skipped():
    def impossible():
        raise ValueError

    mistakes = {"impossible": impossible, "one too many": EXPECTED + 1}
    assert "one too many" in message(EXPECTED + 1, mistakes=mistakes)


def test_mistakes_are_computed_only_on_failure():
    def expensive():
        pytest.fail("computed although nothing was wrong")

    check_close(EXPECTED, EXPECTED, "f(x)", mistakes={"expensive": expensive})


def test_check_tuple_returns_the_parts():
    assert check_tuple((1, 2), ("dx", "dw"), "g(x)") == (1, 2)
    assert check_tuple([1, 2], ("dx", "dw"), "g(x)") == (1, 2)


@pytest.mark.parametrize(
    ("actual", "phrase"),
    [
        (None, "g(x) returned None; is a `return` missing?"),
        (EXPECTED, "expected the tuple (dx, dw), got a NumPy array."),
        ((1,), "expected the tuple (dx, dw), got 1 value."),
        ((1, 2, 3), "expected the tuple (dx, dw), got 3 values."),
    ],
)
def test_check_tuple_says_what_came_instead(actual, phrase):
    with pytest.raises(AssertionError) as failure:
        check_tuple(actual, ("dx", "dw"), "g(x)")
    assert phrase in str(failure.value)


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_check_unchanged_names_the_modified_input(make):
    x, w = make([1.0, float("nan")]), make([3.0, 4.0])
    with check_unchanged(x=x, w=w):
        x + w
    with (
        pytest.raises(AssertionError, match="the input w was modified in place"),
        check_unchanged(x=x, w=w),
    ):
        w[0] = 0.0


def test_check_unchanged_lets_exceptions_through():
    x = np.zeros(2)
    with pytest.raises(KeyError), check_unchanged(x=x):
        x[0] = 1.0
        raise KeyError


def test_rel_error_against_hand_computed_values():
    assert rel_error(np.array([1.0, 2.0]), np.array([1.0, 6.0])) == 0.5
    assert rel_error(np.array([0.0]), np.array([1e-9])) == pytest.approx(0.1)


def test_numerical_gradient_of_an_array_function():
    rng = np.random.default_rng(1)
    x, df = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    with check_unchanged(x=x):
        gradient = eval_numerical_gradient_array(np.sin, x, df)
    assert rel_error(gradient, np.cos(x) * df) < 1e-8


def test_numerical_gradient_of_integers_and_numbers():
    gradient = eval_numerical_gradient_array(lambda x: np.sum(x**2), np.array([1, 2, 3]), 2.0)
    np.testing.assert_allclose(gradient, [4.0, 8.0, 12.0], rtol=1e-8)


def weighted_square(x, labels):
    return x**2 * labels


def test_vector_jacobian_product_leaves_its_inputs_alone():
    x, labels = torch.tensor([1.0, 2.0]), torch.tensor([3, 4])
    (gradient,) = vector_jacobian_product(weighted_square, (x, labels), torch.tensor([1.0, 10.0]))
    torch.testing.assert_close(gradient, torch.tensor([6.0, 160.0]))
    assert x.grad is None
    assert not x.requires_grad


def test_vector_jacobian_product_is_zero_for_an_input_without_influence():
    x, unused = torch.tensor([1.0]), torch.tensor([2.0])
    gradients = vector_jacobian_product(lambda x, unused: x**2, (x, unused), torch.tensor([1.0]))
    torch.testing.assert_close(gradients, (torch.tensor([2.0]), torch.tensor([0.0])))


@pytest.mark.parametrize(
    "function", [lambda x: x.detach() ** 2, lambda x: x.detach().numpy() ** 2, lambda x: None]
)
def test_vector_jacobian_product_needs_a_graph(function):
    with pytest.raises(AssertionError, match="no gradient flows back to the inputs"):
        vector_jacobian_product(function, (torch.tensor([1.0]),), torch.tensor([1.0]))


def test_vector_jacobian_product_runs_beside_a_function_that_lives_elsewhere():
    class Elsewhere:
        def run_beside(self, verb, *arguments):
            return verb(weighted_square, *arguments)

    inputs, upstream = (torch.tensor([3.0]), torch.tensor([2])), torch.tensor([1.0])
    (gradient,) = vector_jacobian_product(Elsewhere(), inputs, upstream)
    torch.testing.assert_close(gradient, torch.tensor([12.0]))
