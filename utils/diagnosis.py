"""Which mistake a wrong array looks like: one of a test's own list, or one of every day.

Nothing is named on a hunch. A mistake is named where it turns the right array into the wrong one to
within rounding, in values that chance doesn't give, and where it would have been seen: what leaves
the right array as it is explains nothing. What fits as well under two names gets both.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations, permutations

import numpy as np

HANDFUL = 4
"""How many different values an array must have before it can be recognised by them."""

MOST_VALUES, MOST_VALUES_OF_PAIRS, MOST_AXES = 200_000, 4_000, 5
"""Beyond these, mistakes, or two of them at once, aren't looked for: it would take too long, and a
student decides what comes."""

Candidate = tuple[str, np.ndarray]
"""A mistake, in words that can follow a semicolon, and what it makes of the right array."""


def distance(result: np.ndarray, target: np.ndarray) -> np.ndarray:
    """|result − target| for each value; infinite where only one is finite, 0 where both are NaN."""
    wide = np.complex128 if "c" in (result.dtype.kind, target.dtype.kind) else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(result.astype(wide) - target.astype(wide))
    same = (result == target) | (np.isnan(result) & np.isnan(target))
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def bound(target: np.ndarray, tolerance: float) -> float:
    """The largest distance allowed from the target: relative to its largest finite magnitude."""
    magnitudes = np.abs(target[np.isfinite(target)].astype(np.complex128))
    return tolerance * float(np.max(magnitudes, initial=0.0) or 1.0)


def is_close(result: np.ndarray, target: np.ndarray, tolerance: float) -> bool:
    """Whether two arrays of numbers have one shape, and the same values up to the tolerance."""
    return result.shape == target.shape and bool(
        np.all(distance(result, target) <= bound(target, tolerance))
    )


def listed_mistake(
    result: np.ndarray, target: np.ndarray, listed: Mapping[str, np.ndarray], tolerance: float
) -> str:
    """The listed mistake whose value is the result, or "".

    Of several that fit, the first is named if they are the same number for number; otherwise the
    one that is clearly nearer than the others, and none where the result lies between them.
    """
    fitting = [
        (float(np.max(distance(result, value), initial=0.0)), mistake)
        for mistake, value in listed.items()
        if is_close(result, value, tolerance) and not is_close(value, target, tolerance)
    ]
    if not fitting:
        return ""
    least, name = min(fitting, key=lambda fit: fit[0])  # the first of equals
    rounding = min(tolerance, 1e-9)
    for apart, other in fitting:
        if apart < 10 * least and not is_close(listed[other], listed[name], rounding):
            return ""
    same = [other for _, other in fitting if is_close(listed[other], listed[name], rounding)]
    return same[0]


@np.errstate(all="ignore")  # a candidate that overflows isn't the result
def everyday_mistake(
    result: np.ndarray, target: np.ndarray, listed: Mapping[str, np.ndarray], tolerance: float
) -> str:
    """What everyday mistake, or which two mistakes at once, turn target into result, or "".

    Args:
        result, target: arrays of numbers, of any shapes; the result isn't close to the target.
        listed: the values of the test's own mistakes, none of which is the result.
        tolerance: as in `is_close`.
    """
    if result.size == 0 or target.size == 0:
        return ""
    for what, found in ("NaN", np.isnan(result)), ("infinite", np.isinf(result)):
        if found.any() and np.isfinite(target).all():
            cause = {
                "NaN": "as from 0 / 0, or from the root or logarithm of a negative number",
                "infinite": "as from a division by 0, or from an exponential that is too large",
            }[what]
            return f"{np.count_nonzero(found)} of {result.size} values are {what}, {cause}"
    if not np.isfinite(result).all() or not np.isfinite(target).all():
        return ""
    if "c" in result.dtype.kind + target.dtype.kind:
        return _complex_mistake(result, target, tolerance)
    if result.shape == target.shape:
        if target.dtype.kind == "b" and target.size > 1 and (result != target).all():
            return "true and false are exchanged"
        if target.any() and not result.any():
            return "every value is zero"
        narrow = _narrow_dtype(result, target)
        if narrow:
            return narrow
    right, came = target.astype(np.float64), result.astype(np.float64)
    if max(right.size, came.size) > MOST_VALUES or max(right.ndim, came.ndim) > MOST_AXES:
        return _shape_hint(came, right)
    axis = _axis_of_length_1(came, right)
    if axis:
        came = came.reshape(right.shape)
        if is_close(came, right, tolerance):
            return axis
    found = _one_mistake(came, right, tolerance) or _two_mistakes(came, right, listed, tolerance)
    found = found or _place_of_what_is_wrong(came, right, tolerance) or _shape_hint(came, right)
    return ", and ".join(filter(None, (axis, found)))


def _complex_mistake(result: np.ndarray, target: np.ndarray, tolerance: float) -> str:
    """The same for complex numbers, of which less is known."""
    if result.shape != target.shape or not result.any() or not target.any():
        return ""
    right = target.astype(np.complex128)
    for name, candidate in [
        ("the sign is reversed", -right),
        ("it is the complex conjugate", np.conj(right)),
        ("the imaginary part is lost", np.real(right)),
        ("the absolute value is taken", np.abs(right)),
    ]:
        if is_close(result, candidate, tolerance) and not is_close(candidate, target, tolerance):
            return name
    return "" if "c" in target.dtype.kind else "the values are complex where real ones belong"


def _narrow_dtype(result: np.ndarray, target: np.ndarray) -> str:
    """Whether the result is the target, cut to a dtype that can't hold it."""
    if result.dtype == target.dtype or result.dtype.kind == "b" or not target.any():
        return ""
    with np.errstate(invalid="ignore", over="ignore"):
        cut = target.astype(result.dtype)
    rounding = 100 * np.finfo(result.dtype).eps if result.dtype.kind == "f" else 0.0
    if not is_close(result, cut, float(rounding)):
        return ""
    return f"it is computed in {result.dtype}, which keeps fewer digits"


def _axis_of_length_1(result: np.ndarray, target: np.ndarray) -> str:
    """Whether the shapes differ in axes of length 1 only, and in which."""
    if result.shape == target.shape or result.squeeze().shape != target.squeeze().shape:
        return ""
    for axis, length in enumerate(target.shape):
        if length == 1 and target.squeeze(axis).shape == result.shape:
            return f"axis {axis}, of length 1, is missing"
    for axis, length in enumerate(result.shape):
        if length == 1 and result.squeeze(axis).shape == target.shape:
            return f"axis {axis}, of length 1, is one too many"
    return "the axes of length 1 are not where they belong"


class _Fit:
    """Whether a mistake's array is the result: to within rounding, and not by chance.

    Args:
        result: what came.
        target: what the mistake was made on; a mistake that leaves it as it is explains nothing.
    """

    def __init__(self, result: np.ndarray, target: np.ndarray, tolerance: float) -> None:
        self.result, self.target, self.tolerance = result, target, tolerance
        places = np.arange(0, result.size, max(1, result.size // 64))
        self.probe = np.unravel_index(places, result.shape) if result.ndim else ()
        self.probed = result[self.probe]
        self.most = 1.1 * tolerance * float(np.max(np.abs(result)))

    def __call__(self, candidate: np.ndarray) -> bool:
        if candidate.shape != self.result.shape:
            return False
        # A look at a few values first, at which nearly all candidates fail.
        if not np.all(np.abs(candidate[self.probe] - self.probed) <= self.most):
            return False
        if not is_close(self.result, candidate, self.tolerance):
            return False
        if candidate.shape != self.target.shape:
            return _is_telling(candidate, self.tolerance)
        apart = distance(candidate, self.target) > bound(self.target, 10 * self.tolerance)
        changed = np.count_nonzero(apart)
        if changed < min(2, apart.size):
            return False
        if _is_telling(candidate, self.tolerance):
            return True
        # Masks and labels have few values. Put in other places, they are known by the places.
        values = np.unique(candidate)
        moved = np.isin(values, np.append(self.target, 0)).all()
        return bool(changed >= 2 * HANDFUL and values.size > 1 and moved)


def _is_telling(array: np.ndarray, tolerance: float) -> bool:
    """Whether other arrays are unlikely to have these values by chance: there is a handful of
    different ones besides 0; or fewer, but real numbers with all their digits."""
    if _has_a_handful(array, tolerance):
        return True
    # 2, 0.75 and 1/3 come about in many ways; 0.7316390214 doesn't.
    scales = np.array([720.0, 1000.0])[:, None] * array[array != 0].ravel()
    return (
        tolerance <= 1e-6
        and scales.size > 0
        and bool((np.abs(scales - np.rint(scales)) > 1e-6).all())
    )


def _has_a_handful(array: np.ndarray, tolerance: float) -> bool:
    """Whether an array has a handful of different values besides 0."""
    values = np.unique(array)
    apart = max(tolerance, 1e-9) * np.max(np.abs(values), initial=0.0)
    values = values[np.abs(values) > apart]
    return bool(values.size > 0 and 1 + np.count_nonzero(np.diff(values) > apart) >= HANDFUL)


def _one_mistake(result: np.ndarray, target: np.ndarray, tolerance: float) -> str:
    """The one mistake that turns target into result, two where two fit, or ""."""
    fit, fit_back = _Fit(result, target, tolerance), _Fit(target, result, tolerance)
    found = [
        name
        for name, candidate in chain(
            _rearranged_like(result, target, tolerance), _altered(target, result.shape)
        )
        if fit(candidate)
    ]
    found += [name for name, candidate in _left_out_of(result, target.shape) if fit_back(candidate)]
    if found:
        return ", or ".join(list(dict.fromkeys(found))[:2])
    return (
        _scale(result, target, tolerance)
        or _shift_or_clip(result, target, tolerance)
        or _rounded(result, target, tolerance)
    )


def _altered(target: np.ndarray, shape: tuple[int, ...]) -> Iterator[Candidate]:
    """What everyday mistakes without a number of their own make of the right values."""
    if target.shape == shape:
        yield "the sign is reversed", -target
        for done, _, candidate in _mapped(target):
            yield done, candidate
        yield from _mixed_up(target)
        yield from _zeros_in(target)
    elif target.ndim > len(shape):
        for _, done, candidate in _reduced(target, shape):
            yield done, candidate
        for axis in range(target.ndim):
            for end, which in ((0, "first"), (-1, "last")):
                yield f"only the {which} along axis {axis} is there", target.take(end, axis)


def _left_out_of(result: np.ndarray, shape: tuple[int, ...]) -> Iterator[Candidate]:
    """What the result would be, had the last step of the computation not been left out."""
    if result.shape == shape:
        for _, missing, candidate in _mapped(result):
            if missing:
                yield missing, candidate
    elif result.ndim > len(shape):
        for missing, _, candidate in _reduced(result, shape):
            yield missing, candidate


def _rearranged_like(
    result: np.ndarray, target: np.ndarray, tolerance: float
) -> Iterator[Candidate]:
    """The right values in other places, where the result may be that."""
    came, right = np.array([[array.min(), array.max()] for array in (result, target)])
    if is_close(came, right, 2 * tolerance):
        yield from _rearranged(target, result.shape)


def _rearranged(target: np.ndarray, shape: tuple[int, ...]) -> Iterator[Candidate]:
    """The right values in other places: transposed, reversed, rolled."""
    for axes, moved in _transpositions(target, shape):
        yield _transposed(axes, moved), target.transpose(axes)
    if target.shape != shape:
        return
    long = [axis for axis in range(target.ndim) if target.shape[axis] > 1]
    for axes in chain(combinations(long, 1), combinations(long, 2)):
        yield f"{_axes(axes)} reversed", np.flip(target, axes)
    for axis in long:
        if target.shape[axis] > 2:  # of two, a roll is a reversal
            for step in (1, -1):
                rolled = np.roll(target, step, axis)
                yield f"the values are rolled by {step} along axis {axis}", rolled


def _transpositions(
    target: np.ndarray, shape: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """The orders of axes that give this shape, and which axes move."""
    if sorted(target.shape) == sorted(shape):
        for axes in permutations(range(target.ndim)):
            moved = [i for i, axis in enumerate(axes) if i != axis]
            if moved and tuple(target.shape[axis] for axis in axes) == shape:
                yield axes, moved


def _transposed(axes: Sequence[int], moved: Sequence[int]) -> str:
    if len(moved) == 2:
        return f"axes {moved[0]} and {moved[1]} are swapped"
    usual: dict[tuple[int, ...], str] = {(0, 2, 3, 1): "last", (0, 3, 1, 2): "second"}
    hint = usual.get(tuple(axes), "")
    return f"the axes are transposed to {tuple(axes)}" + (
        f", as when channels come {hint}" if hint else ""
    )


def _axes(axes: Sequence[int]) -> str:
    """Axes with their verb: "axis 1 is", "axes 1 and 2 are"."""
    if len(axes) == 1:
        return f"axis {axes[0]} is"
    return f"axes {', '.join(map(str, axes[:-1]))} and {axes[-1]} are"


def _zeros_in(target: np.ndarray) -> Iterator[Candidate]:
    """The right values with zeros come in: shifted along an axis, or edges left as they were."""
    for axis in range(target.ndim):
        for step in (1, -1) if target.shape[axis] > 1 else ():
            shifted = np.roll(target, step, axis)
            np.moveaxis(shifted, axis, 0)[0 if step > 0 else -1] = 0
            yield f"the values are shifted by {step} along axis {axis}, zeros come in", shifted
    if target.ndim < 2:
        return
    edges = {
        "first row": np.s_[..., :1, :],
        "last row": np.s_[..., -1:, :],
        "first column": np.s_[..., :1],
        "last column": np.s_[..., -1:],
    }
    for count in range(1, 5):
        for names in combinations(edges, count):
            candidate = target.copy()
            for name in names:
                candidate[edges[name]] = 0
            yield f"zeros are left in the {' and the '.join(names)}", candidate


def _mixed_up(target: np.ndarray) -> Iterator[Candidate]:
    """What belongs to one image, channel or class is given to others."""
    for axis in range(target.ndim):
        if target.shape[axis] < 2:
            continue
        parts = np.moveaxis(target, axis, 0)
        for what, part in [
            ("the first", parts[0]),
            ("the last", parts[-1]),
            ("their mean", parts.mean(0)),
            ("their sum", parts.sum(0)),
        ]:
            candidate = np.moveaxis(np.broadcast_to(part, parts.shape), 0, axis)
            yield f"along axis {axis}, all of them are {what} of those expected", candidate
        summed = np.cumsum(target, axis)
        yield f"along axis {axis}, each is added to those before it", summed


def _mapped(target: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """The right values, each put through a function: the mistake's name, its name where the
    function is the step that was left out ("" where that is no mistake of its own), and what it
    makes of them."""
    yield "the absolute value is taken", "the absolute value is missing", np.abs(target)
    relu = np.maximum(target, 0)
    yield "negative values are set to zero", "negative values are not set to zero", relu
    squares = "the values aren't squared" if (target < 0).any() else ""
    yield "the values are squared", squares, np.square(target)
    least, most = target.min(), target.max()
    if least >= 0 and most < 1e300:
        yield "the square root is taken", "", np.sqrt(target)
    if least > 0:
        yield "the logarithm is taken", "the logarithm is missing", np.log(target)
    if most < 500:
        yield "it is the exponential of what is expected", "", np.exp(target)
    for axis in range(target.ndim):
        if target.shape[axis] > 1:
            shifted = target - target.max(axis, keepdims=True)
            powers = np.exp(shifted)
            total = powers.sum(axis, keepdims=True)
            for name, candidate in (
                ("softmax", powers / total),
                ("log-softmax", shifted - np.log(total)),
            ):
                along = f"along axis {axis}"
                done = f"it is the {name} of what is expected, {along}"
                yield done, f"the {name} {along} is missing", candidate
    yield from _normalised(target)


def _normalised(target: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """The right values on another scale, each image's own or one for all."""
    each = tuple(range(1, target.ndim))
    scopes: list[tuple[str, str, tuple[int, ...] | None]] = [("everything", "its", None)]
    if target.ndim >= 2 and target.shape[0] > 1:
        scopes.append(("each along axis 0", "its own", each))
    for which, whose, axes in scopes:
        least, most = target.min(axes, keepdims=True), target.max(axes, keepdims=True)
        measures = [("maximum", most), ("sum", target.sum(axes, keepdims=True))]
        if target.min() < 0:
            measures.append(("largest magnitude", np.abs(target).max(axes, keepdims=True)))
        measures.append(("length", np.sqrt(np.square(target).sum(axes, keepdims=True))))
        for measure, divisor in measures:
            if divisor.all():
                words = f"divided by {whose} {measure}"
                yield f"{which} is {words}", f"{which} isn't {words}", target / divisor
        if (most > least).all() and least.any():
            words = f"stretched to between 0 and 1 by {whose} minimum and maximum"
            stretched = (target - least) / (most - least)
            yield f"{which} is {words}", f"{which} isn't {words}", stretched
        mean = target.mean(axes, keepdims=True)
        if mean.any():
            centred = f"has {whose} mean subtracted"
            yield f"{which} {centred}", f"{which} needs {whose} mean subtracted", target - mean


def _reduced(array: np.ndarray, shape: tuple[int, ...]) -> Iterator[tuple[str, str, np.ndarray]]:
    """The array, reduced over axes to this shape: what is missing where that wasn't done, what
    was done where it shouldn't, and the reduced array."""
    count = array.ndim - len(shape)
    for axes in combinations(range(array.ndim), count) if count > 0 else ():
        rest = tuple(n for axis, n in enumerate(array.shape) if axis not in axes)
        if rest != shape or math.prod(array.shape) == math.prod(rest):
            continue
        over = (
            "all values"
            if not rest
            else ("axis " if count == 1 else "axes ") + ", ".join(map(str, axes))
        )
        for name, reduce in (
            ("sum", np.sum),
            ("mean", np.mean),
            ("maximum", np.max),
            ("minimum", np.min),
        ):
            yield (
                f"the {name} over {over} is missing",
                f"it is the {name} over {over}",
                reduce(array, axis=axes),
            )


def _scale(result: np.ndarray, target: np.ndarray, tolerance: float, *, plain: bool = False) -> str:
    """Whether every value is so many times the expected one; `plain`: only 2, 1/3 and the like."""
    if result.shape != target.shape or not target.any():
        return ""
    factor = float(np.vdot(target, result) / np.vdot(target, target))
    if not 1e-9 < abs(factor) < 1e9 or not _Fit(result, target, tolerance)(factor * target):
        return ""
    known = {255.0: "like pixels from 0 to 255", 100.0: "like per cent", 180 / np.pi: "in degrees"}
    for value, reason in known.items():
        if abs(factor / value - 1) < 1e-6:
            return f"every value is {value:.6g} times the expected one, {reason}"
    slack = min(max(1e-6, 10 * tolerance), 0.01)
    if factor > 1.5 and abs(factor - round(factor)) < slack:
        times = round(factor)
        return f"every value is {times} times the expected one, like a sum for a mean"
    if 0 < factor < 0.75 and abs(1 / factor - round(1 / factor)) < slack:
        part = round(1 / factor)
        return f"every value is 1/{part} of the expected one, like a mean for a sum"
    if plain or not _has_a_handful(target, tolerance):
        return ""  # any number is a multiple of any other
    return f"every value is {factor:.6g} times the expected one"


def _shift_or_clip(result: np.ndarray, target: np.ndarray, tolerance: float) -> str:
    """Whether every value is so much more or less, or cut off at a bound, or should be."""
    if result.shape != target.shape or not _has_a_handful(target, tolerance):
        return ""
    shift = float(np.mean(result - target))
    if is_close(result, target + shift, tolerance):
        return f"every value is {abs(shift):.6g} {'more' if shift > 0 else 'less'} than expected"
    for clipped, free, done in (result, target, "are"), (target, result, "are not"):
        low, high = clipped.min(), clipped.max()
        if not is_close(clipped, np.clip(free, low, high), tolerance):
            continue
        bounds = [
            f"{side} {limit:.6g}"
            for side, limit, beyond in (("below", low, free < low), ("above", high, free > high))
            if np.count_nonzero(beyond) > 1 and np.count_nonzero(clipped == limit) > 2
        ]
        if bounds and _has_a_handful(clipped, tolerance):
            return f"values {' and '.join(bounds)} {done} clipped to it"
    return ""


def _rounded(result: np.ndarray, target: np.ndarray, tolerance: float) -> str:
    """Whether the values are made whole numbers, or should be."""
    if result.shape != target.shape:
        return ""
    for whole, fine, verb in (result, target, "are"), (target, result, "are not"):
        if (whole != np.rint(whole)).any() or np.count_nonzero(whole) < HANDFUL:
            continue
        for name, rounded in (
            ("cut to whole numbers", np.trunc(fine)),
            ("rounded to whole numbers", np.rint(fine)),
            ("rounded down", np.floor(fine)),
            ("rounded up", np.ceil(fine)),
        ):
            if (rounded == whole).all() and _has_a_handful(fine, tolerance):
                return f"the values {verb} {name}"
    return ""


def _two_mistakes(
    result: np.ndarray, target: np.ndarray, listed: Mapping[str, np.ndarray], tolerance: float
) -> str:
    """Two mistakes that together turn target into result: a listed one and one of every day, or
    two of every day."""
    if max(result.size, target.size) > MOST_VALUES_OF_PAIRS or tolerance > 1e-4:
        return ""
    if not _has_a_handful(result, tolerance):
        return ""
    found = []
    for mistake, value in listed.items():
        if value.size and value.dtype.kind in "biuf" and np.isfinite(value).all():
            if is_close(value, target, 10 * tolerance):
                continue
            second = _one_mistake(result, value.astype(np.float64), tolerance)
            if second:
                found.append(f"it looks as if {mistake}, and {_of_that(second)}")
    if len(found) == 1:
        return found[0]
    pairs: dict[frozenset[str], str] = {}  # the same two in another order are the same
    for first, second in _pairs(result, target, tolerance):
        pairs.setdefault(frozenset((first, second)), f"{first}, and {_of_that(second)}")
    return ", or ".join(list(pairs.values())[:2])


def _of_that(second: str) -> str:
    """A second mistake's name, which speaks of what the first one gives."""
    return second.replace("the expected one", "that").replace("than expected", "than that")


def _pairs(result: np.ndarray, target: np.ndarray, tolerance: float) -> Iterator[tuple[str, str]]:
    """Pairs of everyday mistakes that turn target into result."""
    fit = _Fit(result, target, tolerance)
    shape = result.shape
    for name, candidate in chain(_rearranged(target, shape), _altered(target, shape)):
        second = _sign_or_scale(result, candidate, tolerance)
        if second:
            yield name, second
    for name, candidate in _left_out_of(result, target.shape):
        second = _sign_or_scale(candidate, target, tolerance)
        if second:
            yield name, second
    for name, _, changed in _mapped(target):
        for second, candidate in chain(
            _rearranged_like(result, changed, tolerance),
            ((done, part) for _, done, part in _reduced(changed, shape)),
        ):
            if fit(candidate):
                yield name, second
    for name, transposed in _rearranged_like(result, target, tolerance):
        for second, candidate in _rearranged(transposed, shape):
            if name != second and fit(candidate):
                yield name, second


def _sign_or_scale(result: np.ndarray, target: np.ndarray, tolerance: float) -> str:
    if result.shape == target.shape and _Fit(result, target, tolerance)(-target):
        return "the sign is reversed"
    return _scale(result, target, tolerance, plain=True)


def _place_of_what_is_wrong(result: np.ndarray, target: np.ndarray, tolerance: float) -> str:
    """Where all that is wrong lies, or all that is right, or that only the order is wrong."""
    if result.size == target.size and _has_a_handful(target, tolerance):
        if result.shape != target.shape and is_close(result.ravel(), target.ravel(), tolerance):
            return "the values are right, and in order: only the shape is wrong"
        if is_close(np.sort(result, None), np.sort(target, None), tolerance):
            return "the values are right, but stand in other places"
    if result.shape != target.shape or target.ndim == 0:
        return ""
    wrong = distance(result, target) > bound(target, tolerance)
    if wrong.sum() < 2 or not _has_a_handful(target[~wrong], tolerance):
        return ""
    for axis, length in enumerate(target.shape):
        others = tuple(other for other in range(target.ndim) if other != axis)
        flawed = wrong.mean(others)
        for which, index in ("first", 0), ("last", -1):
            rest = np.delete(flawed, index)
            if length > 1 and flawed[index] == 0 and (rest > 0.5).all():
                return f"only the {which} of {length} along axis {axis} is right"
            if length > 2 and flawed[index] > 0.5 and not rest.any():
                return f"only the {which} of {length} along axis {axis} is wrong"
    if target.ndim >= 2 and min(target.shape[-2:]) > 2 and not wrong[..., 1:-1, 1:-1].any():
        edges = {
            "first row": wrong[..., 0, 1:-1],
            "last row": wrong[..., -1, 1:-1],
            "first column": wrong[..., 1:-1, 0],
            "last column": wrong[..., 1:-1, -1],
        }
        names = [name for name, edge in edges.items() if edge.mean() > 0.5]
        if names:
            return f"what is wrong lies in the {' and the '.join(names)}"
    return ""


def _shape_hint(result: np.ndarray, target: np.ndarray) -> str:
    """What the shapes alone give away."""
    came, right = result.shape, target.shape
    if came == right:
        return ""
    if sorted(came) == sorted(right):
        if len(right) == 4 and came == (right[0], right[2], right[3], right[1]):
            return "the axes look transposed, as when channels come last"
        return "the axes look transposed"
    if len(right) == 1 and came == right * 2:
        return "as when shapes (N, 1) and (N,) are combined, which gives (N, N)"
    for shorter, longer, problem in (came, right, "missing"), (right, came, "one too many"):
        if len(longer) == len(shorter) + 1:
            for axis, length in enumerate(longer):
                if longer[:axis] + longer[axis + 1 :] == shorter:
                    return f"axis {axis}, of length {length}, is {problem}"
    return ""
