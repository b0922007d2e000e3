"""What a function changed in place in its arguments: found in the worker, applied in the tester.

Arguments travel to the worker as copies. With this module they behave as if they had been passed
by reference: the worker notes each array's, tensor's and module's state before and after a call,
and the tester gives its own objects the states that changed.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
MOST_HOOKS = 1000


def shared_objects(value: Any, apart: Iterable[Any] = ()) -> Iterator[Any]:
    """The arrays, tensors and modules in a call's arguments, once each, in an order that is the
    same on both sides: without what lives `apart`, in the worker, for which the tester has no more
    than a stand-in."""
    seen = {id(item) for item in apart}
    waiting = [value]
    while waiting:
        item = waiting.pop(0)
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, list | tuple):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, torch.nn.Module):
            yield from item.modules()
            waiting.extend((*item.parameters(), *item.buffers()))
        elif isinstance(item, np.ndarray | torch.Tensor):
            yield item


def state(item: Any) -> Any:
    """A copy of what a function could change in an array, a tensor or a module, as plain data."""
    if isinstance(item, np.ndarray):
        return item.copy()
    if isinstance(item, torch.Tensor):
        gradient = item.grad if item.is_leaf else None
        return {
            "value": None if item.is_meta else item.detach().clone(),
            "gradient": None if gradient is None else gradient.detach().clone(),
            "requires_grad": item.requires_grad,
        }
    return {"training": item.training, "hooks": [len(getattr(item, name)) for name in HOOKS]}


def same(old: Any, new: Any) -> bool:
    """Whether two states are equal; NaN equals NaN."""
    if isinstance(old, dict):
        return all(same(old[key], new[key]) for key in old)
    if isinstance(old, np.ndarray | torch.Tensor) and type(old) is type(new):
        if old.shape != new.shape or old.dtype != new.dtype:
            return False
        return bool(((old == new) | ((old != old) & (new != new))).all())
    return old is new if old is None or new is None else bool(old == new)


def apply(item: Any, new: Any) -> None:
    """Gives an array, tensor or module a state that came from a worker; left-over hooks become
    hooks that do nothing, as many.

    Raises:
        Exception: the state isn't one of this item.
    """
    if isinstance(item, np.ndarray):
        item[...] = new
    elif isinstance(item, torch.Tensor):
        with torch.no_grad():
            if new["value"] is not None:
                item.copy_(new["value"])
        if item.is_leaf:
            item.requires_grad_(bool(new["requires_grad"]))
            item.grad = new["gradient"]
    else:
        item.training = bool(new["training"])
        for name, count in zip(HOOKS, new["hooks"], strict=True):
            hooks = getattr(item, name)
            for number in range(len(hooks), min(int(count), MOST_HOOKS)):
                hooks[-1 - number] = _do_nothing


def _do_nothing(*_: Any) -> None:
    """Stands for a hook that a student's function left behind."""
