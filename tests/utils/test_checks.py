"""Tests of utils.checks: what passes, what fails, and the one sentence it fails with."""

import numpy as np
import pytest
import torch

from utils.checks import (
    check_close,
    check_tuple,
    eval_numerical_gradient_array,
    in_other_mode,
    one_image_mistakes,
    rel_error,
    vector_jacobian_product,
)

EXPECTED = np.random.default_rng(0).standard_normal((2, 3, 4))


def message(actual, expected=EXPECTED, **options):
    with pytest.raises(AssertionError) as failure:
        check_close(actual, expected, "f(x)", **options)
    assert "\n" not in str(failure.value)
    return str(failure.value)


def test_a_test_that_expects_no_number_is_told_so() -> None:
    with pytest.raises(TypeError, match="the test expects a str, which isn't made of numbers"):
        check_close(2.5, "2.5", "f(x)")


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
        (torch.nn.ReLU(), "got something that isn't an array or a number: a ReLU."),
        (2.5, "expected shape (2, 3, 4), got a number."),
        (EXPECTED + 1e-3 * EXPECTED**2, "24 of 24 values differ, by up to 0.00541)."),
    ],
)
def test_what_is_wrong_is_said(actual, phrase):
    assert phrase in message(actual)


def test_a_difference_says_where_and_by_how_much():
    actual = EXPECTED.copy()
    actual[1, 2, 0] += 0.5
    assert message(actual) == (
        f"f(x): expected {EXPECTED[1, 2, 0]:.6g} at [1, 2, 0], got {actual[1, 2, 0]:.6g}"
        " (1 of 24 values differ, by up to 0.5)."
    )
    assert message(2.75, 2.5) == "f(x): expected 2.5, got 2.75, off by 0.25."
    assert message(np.ones(2), 2.5) == (
        "f(x): expected a number, got shape (2,); axis 0, of length 2, is one too many."
    )
    assert len(message(np.arange(1e6), np.ones(10**6))) < 200


class Elsewhere:
    """Stands for something that lives in another process, as the grader's stand-ins do."""

    def __init__(self, thing):
        self.thing = thing

    def run_beside(self, verb, *arguments):
        return verb(self.thing, *arguments)


def test_what_lives_elsewhere_is_called_by_its_type():
    said = message(Elsewhere(torch.nn.ReLU()))
    assert said == (
        "f(x): expected a NumPy array, got something that isn't an array or a number: a ReLU."
    )


def test_integers_and_booleans_are_exact():
    assert "off by 1" in message(15_470_264_321, 15_470_264_320)
    assert "off by 1" in message(15_470_264_321.0, 15_470_264_320)
    assert "1 of 2 values differ" in message(np.array([1, 0]), np.array([True, True]))
    mistakes = {"the bias is counted": 15_470_264_322}
    assert "bias" not in message(15_470_264_321, 15_470_264_320, mistakes=mistakes)
    assert "bias" in message(15_470_264_322, 15_470_264_320, mistakes=mistakes)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_indices_may_have_any_integer_dtype(dtype):
    check_close(np.array([3, 0], dtype), np.array([3, 0]), "f(x)", indices=True)
    check_close(torch.tensor([3, 0]), torch.tensor([3, 0]), "f(x)", indices=True)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, bool])
def test_what_no_array_takes_as_an_index_is_named_by_its_dtype(dtype):
    right = np.array([1, 0])
    check_close(right.astype(dtype), right, "f(x)")
    name = np.dtype(dtype).name
    said = message(right.astype(dtype), right, indices=True)
    assert said == (
        f"f(x): the values are right, but they are {name}, and only whole numbers such as int64 can"
        " be used as indices."
    )
    wrong = message(np.array([1.0, 1.0]), right, indices=True)
    assert "expected 0 at [1], got 1" in wrong


def test_tolerance_is_relative_to_the_largest_value():
    large = np.array([1e6, 1.0])
    check_close(large + 0.1, large, "f(x)")
    message(large + 1.0, large)
    check_close(large + 1.0, large, "f(x)", tolerance=2e-6)
    message(large + 1e-3, large, tolerance=1e-10)
    check_close(np.full(3, 1e-7), np.zeros(3), "f(x)")
    message(np.full(3, 1e-6), np.zeros(3))


FLOAT32 = EXPECTED.astype(np.float32)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        # float64 throughout, but for a constant: torch.where(mask, 1.0, -1.0) is float32.
        (
            torch.from_numpy(EXPECTED) + 0.1 * torch.where(torch.from_numpy(EXPECTED) > 0, 1.0, -1),
            EXPECTED + 0.1 * np.sign(EXPECTED),
        ),
        (FLOAT32 * np.float32(1 + 4e-7), FLOAT32),
        (EXPECTED, FLOAT32),  # more digits than asked for
        (np.float32(1 / 3), 1 / 3),  # a Python number says nothing about the dtype
        (torch.tensor(1 / 3), 1 / 3),
        (np.full(3, 0.333, np.float16), np.full(3, 1 / 3, np.float16)),
    ],
)
def test_rounding_in_the_dtype_passes(actual, expected):
    check_close(actual, torch.as_tensor(expected) if torch.is_tensor(actual) else expected, "f(x)")


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (FLOAT32 * np.float32(1 + 4e-5), FLOAT32),
        (EXPECTED * (1 + 4e-7), EXPECTED),
        (np.float64(1 / 3 + 1e-6), 1 / 3),
        (np.float32(1 / 3 + 1e-5), 1 / 3),
    ],
)
def test_more_than_rounding_fails(actual, expected):
    message(actual, expected)


def test_less_than_the_expected_digits_are_named():
    assert "computed in float32, which keeps fewer digits." in message(FLOAT32)
    assert "computed in int64, which keeps fewer digits." in message(EXPECTED.astype(int))


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
    assert "it looks as if the bias is missing" in message(FLOAT32 - 1, mistakes=mistakes)


def test_a_mistake_that_cannot_be_computed_is_skipped():
    def impossible():
        raise ValueError

    mistakes = {"impossible": impossible, "one too many": EXPECTED + 1}
    assert "one too many" in message(EXPECTED + 1, mistakes=mistakes)


def test_mistakes_are_computed_only_on_failure():
    def expensive():
        pytest.fail("computed although nothing was wrong")

    check_close(EXPECTED, EXPECTED, "f(x)", mistakes={"expensive": expensive})


class Dropped(torch.nn.Module):
    """Dropout in front of a part that only eval mode leaves alone."""

    def __init__(self):
        super().__init__()
        self.drop = torch.nn.Dropout(1.0)

    def forward(self, x):
        return self.drop(x) + 1


def through(x, model, part):
    assert part in model.children()
    return model(x)


@pytest.mark.parametrize("training", [False, True])
def test_a_value_in_the_other_mode(training):
    model = Dropped().train(training)
    x = torch.tensor([1.0, 2.0])
    value = in_other_mode(through, x, model, part=model.drop)
    x.zero_()
    torch.testing.assert_close(value(), torch.tensor([2.0, 3.0] if training else [1.0, 1.0]))
    assert model.training is model.drop.training is training


def weighted_mean(x, weights, power):
    return (weights * x**power).mean()


def test_mistakes_of_thinking_of_one_image():
    x, weights = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 100.0, 1000.0])
    mistakes = one_image_mistakes(weighted_mean, x, weights, power=2)
    values = {name: float(value()) for name, value in mistakes.items()}
    assert values == {
        "only the first image counts": 10.0,
        "only the last image counts": 9000.0,
        "the images' values are added up": 9410.0,
        "the images' values are averaged": pytest.approx(9410 / 3),
        "what belongs to the first image is used for all of them": pytest.approx(140 / 3),
    }


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


def test_rel_error_against_hand_computed_values():
    assert rel_error(np.array([1.0, 2.0]), np.array([1.0, 6.0])) == 0.5
    assert rel_error(np.array([0.0]), np.array([1e-9])) == pytest.approx(0.1)


def test_numerical_gradient_of_an_array_function():
    rng = np.random.default_rng(1)
    x, df = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    before = x.copy()
    gradient = eval_numerical_gradient_array(np.sin, x, df)
    assert np.array_equal(x, before)
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
    inputs, upstream = (torch.tensor([3.0]), torch.tensor([2])), torch.tensor([1.0])
    (gradient,) = vector_jacobian_product(Elsewhere(weighted_square), inputs, upstream)
    torch.testing.assert_close(gradient, torch.tensor([12.0]))
