"""What the labs' tests are made of: checks that fail in one sentence that names the mistake."""

import builtins
import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any

import numpy as np
import torch

from utils.diagnosis import bound, distance, everyday_mistake, is_close, listed_mistake


def rel_error(x: np.ndarray, y: np.ndarray) -> float:
    """The largest relative error max |x − y| / max(1e-8, |x| + |y|), between 0 and 1 (CS231n)."""
    return float(np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y))))


def eval_numerical_gradient_array(
    f: Callable[[np.ndarray], Any], x: np.ndarray, df: Any, h: float = 1e-5
) -> np.ndarray:
    """The gradient of sum(f(x) · df) for x by central differences (CS231n).

    Args:
        f: takes an array like x, returns an array or a number.
        x: array of any shape; it is computed on in float64 and left as it is.
        df: upstream gradient, of the shape of f(x).
        h: step. In float64 the error is smallest near 1e-5: a larger step truncates
            more of f's curvature, a smaller one loses digits to round-off.

    Returns:
        float64 array of x's shape.
    """
    gradient = np.zeros(np.shape(x))
    for index in np.ndindex(gradient.shape):
        above, below = np.array(x, dtype=np.float64), np.array(x, dtype=np.float64)
        above[index] += h
        below[index] -= h
        gradient[index] = np.sum((f(above) - f(below)) * df) / (2 * h)
    return gradient


def check_close(
    actual: Any,
    expected: Any,
    name: str,
    *,
    mistakes: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
    indices: bool = False,
) -> None:
    """Pass if `actual` is `expected`, up to rounding; otherwise say what differs and why.

    Args:
        actual: what the student's function returned.
        expected: NumPy array, torch tensor or number.
        name: what to call `actual` in the message, such as "gram_matrix(features)".
        mistakes: from a mistake, in words that can follow "it looks as if" ("the kernel is not
            flipped"), to the value that it would give, or to a function without arguments that
            gives this value. Such a function is called only on failure; if it raises, its
            mistake is skipped, and so is one whose value is as good as the expected one. Of
            several that fit, the nearest is named; of equals, the first. Where none fits, mistakes
            of every day are looked for (transposed axes, a sum for a mean, an absolute value too
            many, one image's answer for all, …), also two at once: see utils.diagnosis.
        tolerance: the largest difference allowed, relative to the largest expected magnitude.
            None is what rounding in the dtypes allows: 1e-5 for an expected float32, and for
            results in float32 where a Python number is expected; for float64, 2.4e-7, so that
            constants and masks in float32 may be mixed in; but 1e-9 for a result in float32 where
            an array in float64 is expected, which is named for it. Integers and booleans must be
            exact.
        indices: whether the values are places in an array, which 3.0 can't be: they must have an
            integer dtype, whichever it is. Else a number may come in any dtype that holds it.

    Raises:
        AssertionError: in one sentence: what was expected, what came, by how much they differ,
            and which mistake it looks like.
        TypeError: what is expected is no number and no array of numbers.
    """
    if actual is None:
        raise AssertionError(f"{name} returned None; is a `return` missing?")
    target, result = _as_array(expected), _as_array(actual)
    kinds = {_kind(actual), _kind(expected)}
    if result is None or (len(kinds) == 2 and "a number" not in kinds):
        raise AssertionError(f"{name}: expected {_kind(expected)}, got {_kind(actual)}.")
    if target is None:
        raise TypeError(f"{name}: the test expects {_kind(expected)}, which isn't made of numbers")
    if target.dtype.kind in "biu":
        tolerance = 0.0
    elif tolerance is None:
        # A Python number says nothing about the dtype.
        dtype = result.dtype if type(expected) is float else target.dtype
        tolerance = _rounding(result.dtype, dtype) or _rounding(target.dtype, target.dtype)
    if is_close(result, target, tolerance):
        if indices and result.dtype.kind not in "iu":
            raise AssertionError(
                f"{name}: the values are right, but they are {result.dtype}, and only whole numbers"
                f" such as {target.dtype} can be used as indices."
            )
        return
    listed = {}
    for mistake, value in (mistakes or {}).items():
        with suppress(Exception):  # it raises where the mistake is impossible on this input
            array = _as_array(value() if callable(value) else value)
            if array is not None:
                listed[mistake] = array
    # A mistake may be made in the result's dtype, whatever the expected one.
    exact = target.dtype.kind in "biu"
    rough = 1e-12 if exact else max(tolerance, _rounding(result.dtype, result.dtype), 1e-9)
    mistake = listed_mistake(result, target, listed, rough)
    cause = f"it looks as if {mistake}" if mistake else ""
    cause = cause or everyday_mistake(result, target, listed, rough)
    difference = _difference(result, target, tolerance)
    raise AssertionError(f"{name}: {difference}{'; ' * bool(cause)}{cause}.")


def check_tuple(actual: Any, parts: Sequence[str], name: str) -> tuple:
    """Return `actual` if it is a tuple (or list) of as many values as `parts` names.

    Raises:
        AssertionError: in one sentence, where it isn't.
    """
    if actual is None:
        raise AssertionError(f"{name} returned None; is a `return` missing?")
    if not isinstance(actual, tuple | list):
        came = _kind(actual)
    elif len(actual) != len(parts):
        came = f"{len(actual)} value{'s' * (len(actual) != 1)}"
    else:
        return tuple(actual)
    raise AssertionError(f"{name}: expected the tuple ({', '.join(parts)}), got {came}.")


def run_beside(helper: Callable) -> Callable:
    """Decorator: runs a test's helper where its first argument lives.

    In the grader, what a student's code defines or returns lives in another process, and a test has
    a stand-in for it that gives nothing but data. A helper that must have the thing itself, to set
    hooks or to follow autograd's graph, goes there with its other arguments, and its result comes
    back as data, tensors detached. Everywhere else it is called as it is.

    Args:
        helper: a function of a given cell or of a module, to be called by position; its first
            argument is the thing.
    """

    @wraps(helper)
    def run(thing: Any, *arguments: Any) -> Any:
        if hasattr(thing, "run_beside"):
            return thing.run_beside(helper, *arguments)
        return helper(thing, *arguments)

    return run


@run_beside
def vector_jacobian_product(
    function: Callable[..., torch.Tensor], inputs: Sequence[Any], upstream: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """The gradient of sum(function(*inputs) · upstream) for each floating-point tensor in inputs.

    Args:
        function: differentiable by autograd, returns one tensor.
        inputs: its arguments; the tensors among them are copied, so no gradient is left on them.
        upstream: tensor of the shape of the function's result.

    Raises:
        AssertionError: if autograd can't follow the function from its result to its inputs, or the
            backward pass changes the upstream gradient that it gets.
    """
    inputs = [x.detach().clone() if isinstance(x, torch.Tensor) else x for x in inputs]
    variables = [x for x in inputs if isinstance(x, torch.Tensor) and x.is_floating_point()]
    for variable in variables:
        variable.requires_grad_()
    output = function(*inputs)
    if not (isinstance(output, torch.Tensor) and output.requires_grad):
        raise AssertionError(
            "no gradient flows back to the inputs; is the result detached, or made with NumPy?"
        )
    handed_in = upstream.clone()
    gradients = torch.autograd.grad(output, variables, handed_in, materialize_grads=True)
    if not torch.equal(handed_in, upstream):
        raise AssertionError("the upstream gradient was modified in place: work on a copy.")
    return gradients


def in_other_mode(function: Callable, *arguments: Any, **keywords: Any) -> Callable[[], Any]:
    """A mistake for `check_close`: the function's value with its models in the other mode.

    Each model among the arguments, given by position or by name, goes to training mode where it is
    in eval mode, and the other way round, with all its modules.

    Args:
        function: the right one, such as reference.grad_cam.
        arguments, keywords: what to call it with. They are copied at once.

    Returns:
        A function without arguments that gives the value.
    """
    arguments, keywords = copy.deepcopy((arguments, keywords))
    values = (*arguments, *keywords.values())
    models = [value for value in values if isinstance(value, torch.nn.Module)]
    parts = {part for model in models for part in model.modules() if part is not model}
    for model in models:
        if model not in parts:
            model.train(not model.training)
    return lambda: function(*arguments, **keywords)


def one_image_mistakes(
    function: Callable, *batches: Any, **keywords: Any
) -> dict[str, Callable[[], Any]]:
    """Mistakes for `check_close`: the values of a batch that come of thinking of one image.

    They are for a function that gives one value for the whole batch, such as a loss. Where it gives
    one for each image, `check_close` finds these mistakes by itself.

    Args:
        function: the right one, such as reference.style_loss.
        batches: its first arguments, tensors or arrays (N, …) each: images, and what belongs to
            each of them.
        keywords: its other arguments.
    """

    def value(at: slice) -> Any:
        return function(*(batch[at] for batch in batches), **keywords)

    def values() -> list[Any]:
        return [value(slice(n, n + 1)) for n in range(len(batches[0]))]

    def first_for_all() -> Any:
        others = (batch[[0] * len(batch)] for batch in batches[1:])
        return function(batches[0], *others, **keywords)

    return {
        "only the first image counts": lambda: value(slice(0, 1)),
        "only the last image counts": lambda: value(slice(-1, None)),
        "the images' values are added up": lambda: sum(values()),
        "the images' values are averaged": lambda: sum(values()) / len(values()),
        "what belongs to the first image is used for all of them": first_for_all,
    }


def random_images(seed: int, *shape: int) -> torch.Tensor:
    """Images to test with: float64 of this shape, uniform in [0, 1)."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def count_hooks(model: torch.nn.Module) -> int:
    """How many hooks hang on a model's modules: those that a function left behind, if it had none
    before."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


@run_beside
def hooks_left(function: Callable[..., Any], *arguments: Any) -> int:
    """How many hooks a function leaves on the modules in its arguments, also where it raises an
    exception, which is held back here; they had none before.

    This is the word of the process in which the function runs: evidence, not proof.
    """
    with suppress(Exception):
        function(*arguments)
    return sum(count_hooks(model) for model in arguments if isinstance(model, torch.nn.Module))


def _as_array(value: Any) -> np.ndarray | None:
    """The value as an array of numbers; None if it is anything else than numbers."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().resolve_conj()
        value = (value.double() if value.dtype == torch.bfloat16 else value).numpy()
    elif not isinstance(value, np.ndarray | np.generic | bool | int | float | complex):
        return None
    value = np.asarray(value)
    return value if value.dtype.kind in "biufc" else None


def _rounding(result: np.dtype, target: np.dtype) -> float:
    """What rounding may change in floating point, relative to the largest magnitude: some digits
    less than the dtypes have, for sums can be taken in any order."""
    if target.kind not in "fc":
        return 0.0
    precision = float(np.finfo(target).eps)
    if precision > 1e-10:  # float32 and less
        return min(84 * precision, 0.01)
    if result.kind in "fc" and result.itemsize < target.itemsize:
        return 1e-9
    return 2 * float(np.finfo(np.float32).eps)


KNOWN_TYPES = {"function", "generator", "module", *vars(builtins), *vars(torch.nn)}


@run_beside
def _type_name(thing: Any) -> str:
    return type(thing).__name__


def _kind(value: Any) -> str:
    """The value's type in words."""
    if isinstance(value, np.ndarray):
        return "a NumPy array" if value.dtype.kind in "biufc" else f"an array of {value.dtype}"
    if isinstance(value, torch.Tensor):
        return "a torch tensor"
    if isinstance(value, np.number | np.bool_ | bool | int | float | complex):
        return "a number"
    name = _type_name(value)
    if name not in KNOWN_TYPES:  # A name of a student's choice could carry a hidden test's inputs.
        return "an object of a class of your own"
    words = f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
    if isinstance(value, list | tuple | dict | str | set):
        return words
    return f"something that isn't an array or a number: {words}"


def _difference(result: np.ndarray, target: np.ndarray, tolerance: float) -> str:
    """What was expected, what came, and by how much they differ."""
    if result.shape != target.shape:
        shapes = [
            f"shape {array.shape}" if array.ndim else "a number" for array in (target, result)
        ]
        return "expected {}, got {}".format(*shapes)
    apart = distance(result, target)
    worst = np.unravel_index(np.argmax(apart), apart.shape)
    expected, got = f"expected {target[worst]:.6g}", f"got {result[worst] + 0.0:.6g}"
    if target.ndim == 0:
        return f"{expected}, {got}, off by {apart[worst]:.3g}"
    place = ", ".join(map(str, worst))
    wrong = np.count_nonzero(apart > bound(target, tolerance))
    return (
        f"{expected} at [{place}], {got}"
        f" ({wrong} of {target.size} values differ, by up to {apart[worst]:.3g})"
    )
