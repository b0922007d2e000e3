"""The rules that hold while a test calls a student's function: inputs stay as they are, an
exception says which call raised it, and what is to be written by hand is."""

import copy
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np
import torch

from utils.changes import Snapshot
from utils.without import forbidden_calls, notebook_sources

LONGEST_VALUE = 40
# What the commonest mistake of all comes to, in the end of a sentence about a call.
ONE_IMAGE = "it works for one image only"


def checked(function: Any, changes: Collection[str] = (), without: Sequence[str] = ()) -> Any:
    """The function, with its exercise's rules enforced at each call; what isn't a function, and a
    class, as it is. Released test cells begin with this, and end with `unchecked`.

    Args:
        changes: the parameters that it may change in place ("model", or "model.grad").
        without: what it must not call, as dotted names; see `check_without`.

    Raises:
        AssertionError: by the calls, where an argument was changed. An exception of the function's
            own is passed on, with a note that says which call raised it.
    """
    if not callable(function) or isinstance(function, type):
        return function
    function = unchecked(function)

    @wraps(function)
    def guarded(*arguments: Any, **keywords: Any) -> Any:
        named = named_arguments(function, arguments, keywords)
        before = Snapshot(named)
        try:
            result = function(*arguments, **keywords)
        except NotImplementedError:
            raise  # a stub
        except Exception as error:
            if not getattr(error, "__notes__", None):  # A function within it may have told already.
                message = str(error.args[0]) if len(error.args) == 1 else str(error)
                call = call_in_words(function.__name__, named)
                said = f"{call} raised {type(error).__name__}: {message}"
                said += f"; {ONE_IMAGE}" * _works_for_one_image(function, named)
                error.add_note(said)
            raise
        for change in before.changes():
            if not change.is_allowed(changes):
                raise AssertionError(f"{function.__name__}: {change.sentence()}")
        return result

    guarded.forbidden_calls = lambda: forbidden_calls(  # type: ignore[attr-defined]
        notebook_sources(), function.__name__, without
    )
    return guarded


def unchecked(function: Any) -> Any:
    """The function that was given to `checked`; anything else as it is."""
    while hasattr(function, "forbidden_calls") and hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def check_without(function: Callable[..., Any]) -> None:
    """Fail if a student's function calls what its exercise's header forbids; a test of its own, so
    that it costs the points that it is worth and no more.

    Raises:
        AssertionError: naming the call and its line.
    """
    found = function.forbidden_calls()  # type: ignore[attr-defined]
    if found:
        raise AssertionError(found[0])


def named_arguments(
    function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> dict[str, Any]:
    """A call's arguments by the names of the function's parameters; by number where they don't
    fit it."""
    try:
        return dict(inspect.signature(function).bind(*arguments, **keywords).arguments)
    except (TypeError, ValueError):
        return {f"argument {i}": value for i, value in enumerate(arguments, 1)} | dict(keywords)


def call_in_words(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as a sentence has it: "gram_matrix(features of shape (2, 3, 4, 5), pad=1)"."""
    return f"{name}({', '.join(_described(key, value) for key, value in arguments.items())})"


def _described(name: str, value: Any) -> str:
    if isinstance(value, np.ndarray | torch.Tensor) and value.ndim:
        return f"{name} of shape {tuple(value.shape)}"
    text = repr(value) if _is_plain(value) else ""
    return f"{name}={text}" if 0 < len(text) <= LONGEST_VALUE else name


def _is_plain(value: Any) -> bool:
    """Whether a value's repr says something to a reader."""
    if isinstance(value, dict):
        return all(_is_plain(part) for part in value.values())
    if isinstance(value, list | tuple):
        return all(_is_plain(part) for part in value)
    return isinstance(value, bool | int | float | str | np.number | type(None))


def one_image(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """A call's arguments with the first image only of a batch (N, C, H, W), N > 1, and the first of
    every other array that has N entries, as copies; None where there is no batch."""
    arrays = {k: v for k, v in arguments.items() if isinstance(v, np.ndarray | torch.Tensor)}
    batch = next((value for value in arrays.values() if value.ndim), None)
    if batch is None or batch.ndim != 4 or len(batch) < 2:
        return None
    first = {}
    for name, value in arrays.items():
        if value.ndim and len(value) == len(batch):
            part = value[:1]
            first[name] = part.detach().clone() if isinstance(part, torch.Tensor) else part.copy()
    return {**arguments, **first}


def _works_for_one_image(function: Callable[..., Any], arguments: Mapping[str, Any]) -> bool:
    one = one_image(arguments)
    if one is None:
        return False
    try:
        bound = inspect.signature(function).bind_partial()
        for name, value in one.items():
            own = value is not arguments[name]
            bound.arguments[name] = value if own else copy.deepcopy(value)
        function(*bound.args, **bound.kwargs)
    except Exception:
        return False
    return True
