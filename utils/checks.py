"""What the labs' tests are made of: checks that fail in one sentence that names the mistake."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from itertools import permutations
from typing import Any

import numpy as np
import torch


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
    tolerance: float = 1e-9,
) -> None:
    """Pass if `actual` is `expected`, up to rounding; otherwise say what differs and why.

    Args:
        actual: what the student's function returned.
        expected: NumPy array, torch tensor or number.
        name: what to call `actual` in the message, such as "gram_matrix(features)".
        mistakes: from a mistake, in words that can follow "it looks as if" ("the kernel is not
            flipped"), to the value that it would give, or to a function without arguments that
            gives this value. Such a function is called only on failure; if it raises, its
            mistake is skipped, and so is one whose value is as good as the expected one. The
            first that fits is named. Mistakes of every day (a missing `return`, transposed axes,
            a reversed sign, a mean for a sum, …) are recognised without being listed.
        tolerance: the largest difference allowed, relative to the largest expected magnitude.
            Integers and booleans must be exact. The dtype itself doesn't matter.

    Raises:
        AssertionError: in one sentence: what was expected, what came, by how much they differ,
            and which mistake it looks like.
    """
    if actual is None:
        raise AssertionError(f"{name} returned None; is a `return` missing?")
    target, result = _as_array(expected), _as_array(actual)
    kinds = {_kind(actual), _kind(expected)}
    if result is None or (len(kinds) == 2 and "a number" not in kinds):
        raise AssertionError(f"{name}: expected {_kind(expected)}, got {_kind(actual)}.")
    if target.dtype.kind in "biu":
        tolerance = 0.0
    if _is_close(result, target, tolerance):
        return
    cause = _listed_mistake(result, target, mistakes or {}, tolerance)
    cause = cause or _everyday_mistake(result, target, tolerance)
    raise AssertionError(f"{name}: {_difference(result, target, tolerance)}{cause}.")


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


@contextmanager
def check_unchanged(**inputs: Any) -> Iterator[None]:
    """Fail if the block modifies one of the arrays or tensors, which are given by name.

    Example:
        with check_unchanged(x=x, kernel=kernel):
            y = convolve2d(x, kernel)

    Raises:
        AssertionError: naming the first input that was modified in place.
    """
    before = copy.deepcopy(inputs)
    yield
    for name, value in inputs.items():
        if not np.array_equal(_as_array(value), _as_array(before[name]), equal_nan=True):
            raise AssertionError(f"the input {name} was modified in place; work on a copy of it.")


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
            return thing.run_beside(run, *arguments)
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
        AssertionError: if autograd can't follow the function from its result to its inputs.
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
    return torch.autograd.grad(output, variables, upstream, materialize_grads=True)


def random_images(seed: int, *shape: int) -> torch.Tensor:
    """Images to test with: float64 of this shape, uniform in [0, 1)."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def count_hooks(model: torch.nn.Module) -> int:
    """How many hooks hang on a model's modules: those that a function left behind, if it had none
    before."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def _as_array(value: Any) -> np.ndarray | None:
    """The value as an array of numbers; None if it is anything else than numbers."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().resolve_conj()
        value = (value.double() if value.dtype == torch.bfloat16 else value).numpy()
    elif not isinstance(value, np.ndarray | np.generic | bool | int | float | complex):
        return None
    value = np.asarray(value)
    return value if value.dtype.kind in "biufc" else None


def _kind(value: Any) -> str:
    """The value's type in words."""
    if isinstance(value, np.ndarray):
        return "a NumPy array" if value.dtype.kind in "biufc" else f"an array of {value.dtype}"
    if isinstance(value, torch.Tensor):
        return "a torch tensor"
    if isinstance(value, np.number | np.bool_ | bool | int | float | complex):
        return "a number"
    type_name = type(value).__name__
    return f"{'an' if type_name[0] in 'aeiouAEIOU' else 'a'} {type_name}"


def _distance(result: np.ndarray, target: np.ndarray) -> np.ndarray:
    """|result − target| for each value; infinite where only one is finite, 0 where both are NaN."""
    wide = np.complex128 if "c" in (result.dtype.kind, target.dtype.kind) else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(result.astype(wide) - target.astype(wide))
    same = (result == target) | (np.isnan(result) & np.isnan(target))
    return np.where(same, 0.0, np.where(np.isnan(distance), np.inf, distance))


def _bound(target: np.ndarray, tolerance: float) -> float:
    """The largest distance allowed from the target."""
    magnitudes = np.abs(target[np.isfinite(target)].astype(np.complex128))
    return tolerance * (np.max(magnitudes, initial=0.0) or 1.0)


def _is_close(result: np.ndarray, target: np.ndarray, tolerance: float) -> bool:
    return result.shape == target.shape and bool(
        np.all(_distance(result, target) <= _bound(target, tolerance))
    )


def _difference(result: np.ndarray, target: np.ndarray, tolerance: float) -> str:
    """What was expected, what came, and by how much they differ."""
    if result.shape != target.shape:
        shapes = [
            f"shape {array.shape}" if array.ndim else "a number" for array in (target, result)
        ]
        return "expected {}, got {}".format(*shapes)
    distance = _distance(result, target)
    worst = np.unravel_index(np.argmax(distance), distance.shape)
    expected, got = f"expected {target[worst]:.6g}", f"got {result[worst] + 0.0:.6g}"
    if target.ndim == 0:
        return f"{expected}, {got}, off by {distance[worst]:.3g}"
    place = ", ".join(map(str, worst))
    wrong = np.count_nonzero(distance > _bound(target, tolerance))
    return (
        f"{expected} at [{place}], {got}"
        f" ({wrong} of {target.size} values differ, by up to {distance[worst]:.3g})"
    )


def _listed_mistake(
    result: np.ndarray, target: np.ndarray, mistakes: Mapping[str, Any], tolerance: float
) -> str:
    """The first of the mistakes whose value is the result, as the end of a sentence, or ""."""
    for mistake, value in mistakes.items():
        if callable(value):
            with suppress(Exception):  # it raises where the mistake is impossible on this input
                value = value()
        value = _as_array(value)
        if (
            value is not None
            and _is_close(result, value, tolerance)
            and not _is_close(value, target, tolerance)
        ):
            return f"; it looks as if {mistake}"
    return ""


def _everyday_mistake(result: np.ndarray, target: np.ndarray, tolerance: float) -> str:
    """The mistake of every day that turns target into result, as the end of a sentence, or ""."""
    for axes in permutations(range(target.ndim)):
        moved = [i for i, axis in enumerate(axes) if i != axis]
        if moved and _is_close(result, target.transpose(axes), tolerance):
            if len(moved) == 2:
                return f"; axes {moved[0]} and {moved[1]} are swapped"
            return f"; the axes are transposed to {axes}"
    if result.shape != target.shape:
        if sorted(result.shape) == sorted(target.shape):
            return "; the axes look transposed"
        return ""
    for what, found in ("NaN", np.isnan(result)), ("infinite", np.isinf(result)):
        if found.any() and np.isfinite(target).all():
            return f"; {np.count_nonzero(found)} of {result.size} values are {what}"
    if not np.isfinite(result).all() or not np.isfinite(target).all() or not target.any():
        return ""
    if not result.any():
        return "; every value is zero"
    if _is_close(-1.0 * result, target, tolerance):
        return "; the sign is reversed"
    if result.dtype != target.dtype:
        rounding = 100 * np.finfo(result.dtype).eps if result.dtype.kind in "fc" else 0.0
        if _is_close(result, target.astype(result.dtype), rounding):
            return f"; it is computed in {result.dtype}, which keeps fewer digits"
    if np.count_nonzero(target) < 2 or "c" in result.dtype.kind + target.dtype.kind:
        return ""  # one number is always a multiple of another
    factor = np.vdot(target, result.astype(np.float64)) / np.vdot(target, 1.0 * target)
    if factor != 0 and _is_close(result, factor * target, max(tolerance, 1e-9)):
        if factor > 1.5 and abs(factor - round(factor)) < 1e-6:
            factor = round(factor)
            return f"; every value is {factor} times the expected one, like a sum for a mean"
        if 0 < factor < 0.75 and abs(1 / factor - round(1 / factor)) < 1e-6:
            factor = round(1 / factor)
            return f"; every value is 1/{factor} of the expected one, like a mean for a sum"
        return f"; every value is {factor:.6g} times the expected one"
    return ""
