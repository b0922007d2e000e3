"""What a function did to its arguments besides returning a result: snapshots, and what differs."""

import copy
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")  # of BatchNorm
HOLDERS = (list, dict, np.ndarray, torch.Tensor)
PLAIN = (bool, int, float, complex, str, bytes, type(None))
# What can change in an argument, and how a sentence about it goes on after the argument's name.
ASPECTS = {
    "value": "was modified in place: work on a copy",
    "statistics": "moved, for the model ran in training mode: run it in eval mode",
    "requires_grad": "was left with another requires_grad: use a detached copy",
    "grad": "was left with another .grad: torch.autograd.grad leaves none, or work on a copy",
    "training": "was left in another mode (train or eval): put the old mode back",
    "hooks": "was left with other hooks: remove yours, and only yours",
    "attributes": "was left with other attributes: keep what you need outside of it",
    "flag": "has an attribute requires_grad now, which freezes nothing: it is each parameter, not a"
    " module, that has a requires_grad",
    "buffers": "was given other buffers: work on a copy",
    "parameters": "was given other parameters: an optimiser would go on with the old ones",
    "modules": "was given other submodules: work on a deep copy",
    "items": "has other items than before: work on a copy",
    "settings": "was left with other settings (gradients on or off, default dtype): put them back",
}
# An application would need objects that no data describes, or that somebody else holds.
FIXED = ("parameters", "modules")


@dataclass(frozen=True)
class Change:
    """One thing that a call changed.

    Attributes:
        path: where, from the argument's name on, such as "model.features.0.weight".
        aspect: what of it, a key of ASPECTS.
        new: what it is now, as data.
    """

    path: str
    aspect: str
    new: Any

    @property
    def root(self) -> str:
        """The argument that it is in."""
        return self.path.replace("[", ".", 1).split(".", 1)[0]

    def is_allowed(self, allowed: Collection[str]) -> bool:
        """Whether an exercise may do this: `allowed` has entries such as "model" (anything but its
        parameters and submodules as objects) and "model.grad" (gradients below model)."""
        return (self.root in allowed and self.aspect not in FIXED) or (
            f"{self.root}.{self.aspect}" in allowed
        )

    def sentence(self) -> str:
        """What happened, and what to do."""
        return f"`{self.path}` {ASPECTS[self.aspect]}."


class Snapshot:
    """Arguments as they were before a call.

    Args:
        arguments: by name: arrays, tensors, modules, optimisers, and lists, tuples and dicts of
            them; anything else in them isn't looked at.
        apart: objects to leave out.
    """

    def __init__(self, arguments: Mapping[str, Any], apart: Iterable[Any] = ()) -> None:
        self._objects = dict(reachable(arguments, apart))
        self._states = {path: _state(item) for path, item in self._objects.items()}
        self._settings = _settings()

    def changes(self) -> list[Change]:
        """What is different now; torch's settings are put back, for they are nobody's argument."""
        found = []
        for path, item in self._objects.items():
            old, new = self._states[path], _state(item)
            for aspect in old:
                if not _same(old[aspect], new[aspect]):
                    told = _told(item, aspect, old[aspect], new[aspect])
                    if aspect == "value" and path.endswith(STATISTICS):
                        aspect = "statistics"
                    elif aspect == "attributes" and "requires_grad" in told["set"]:
                        aspect = "flag"
                    found.append(Change(path, aspect, told))
        if _settings() != self._settings:
            found.append(Change("torch", "settings", None))
            torch.set_grad_enabled(self._settings[0])
            torch.set_default_dtype(self._settings[1])
        return found


def _settings() -> tuple[bool, torch.dtype]:
    return torch.is_grad_enabled(), torch.get_default_dtype()


def reachable(arguments: Mapping[str, Any], apart: Iterable[Any] = ()) -> Iterator[tuple[str, Any]]:
    """What can be changed in arguments, each object once, by its path, in an order that depends on
    nothing but the arguments."""
    seen = {id(item) for item in apart}
    waiting = deque(arguments.items())
    while waiting:
        path, item = waiting.popleft()
        if id(item) in seen:
            continue
        if isinstance(item, list | tuple):
            parts = [(f"{path}[{number}]", part) for number, part in enumerate(item)]
        elif isinstance(item, dict):
            parts = [(f"{path}[{key!r}]", part) for key, part in item.items()]
        elif isinstance(item, torch.nn.Module):
            kept = {n: v for n, v in vars(item).items() if isinstance(v, HOLDERS) and n[0] != "_"}
            named = {**item._modules, **item._parameters, **item._buffers, **kept}
            parts = [(f"{path}.{name}", part) for name, part in named.items()]
        elif isinstance(item, torch.optim.Optimizer):
            parts = [(f"{path}.param_groups", item.param_groups)]
        elif isinstance(item, np.ndarray | torch.Tensor):
            parts = []
        else:
            continue
        seen.add(id(item))
        yield path, item
        waiting.extend(parts)


def _state(item: Any) -> dict[str, Any]:
    """A copy of what can be changed in one object, by aspect."""
    if isinstance(item, np.ndarray):
        return {"value": item.copy()}
    if isinstance(item, torch.Tensor):
        return {
            "value": None if item.is_meta else item.detach().clone(),
            "requires_grad": item.requires_grad,
            "grad": item.grad.detach().clone() if item.is_leaf and item.grad is not None else None,
        }
    if isinstance(item, torch.nn.Module):
        return {
            "training": item.training,
            "hooks": [list(getattr(item, kind)) for kind in HOOKS],
            "attributes": {
                name: _token(value)
                for name, value in vars(item).items()
                if not name.startswith("_") and name != "training"
            },
            "buffers": {name: _token(value) for name, value in item._buffers.items()},
            "parameters": {name: _token(value) for name, value in item._parameters.items()},
            "modules": {name: _token(value) for name, value in item._modules.items()},
        }
    if isinstance(item, dict):
        return {"items": {key: _token(value) for key, value in item.items()}}
    if isinstance(item, list | tuple):
        return {"items": [_token(value) for value in item]}
    return {}


class _Identity:
    """Stands for an object that is compared by being the same one; holds it, so that no other
    object can take its place in memory."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.item is other.item


def _token(value: Any) -> Any:
    """What to compare of an item or attribute: plain data by value, all else by identity."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, tuple) and all(isinstance(part, PLAIN) for part in value):
        return value
    return _Identity(value)


def _same(old: Any, new: Any) -> bool:
    """Whether two states of one aspect are equal; NaN equals NaN."""
    if isinstance(old, np.ndarray):
        return old.shape == new.shape and old.dtype == new.dtype and _equal(old, new)
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        if old.shape != new.shape or old.dtype != new.dtype or old.device != new.device:
            return False
        return old.is_meta or torch.equal(old, new) or _equal(old.cpu(), new.cpu())
    if isinstance(old, torch.Tensor) or isinstance(new, torch.Tensor):
        return False
    if type(old) is float and type(new) is float:
        return old == new or (old != old and new != new)
    return type(old) is type(new) and bool(old == new)


def _equal(old: Any, new: Any) -> bool:
    return bool(((old == new) | ((old != old) & (new != new))).all())


def _named(item: Any, aspect: str) -> dict[Any, Any]:
    """The dict in which an object holds what an aspect is about."""
    return item if aspect == "items" else item._buffers if aspect == "buffers" else vars(item)


def _told(item: Any, aspect: str, old: Any, new: Any) -> Any:
    """An aspect's new state without stand-ins for objects; of names, only what became of them."""
    if aspect in ("buffers", "attributes") or (aspect == "items" and isinstance(item, dict)):
        values = _named(item, aspect)
        set_now = {key: values[key] for key in new if key not in old or old[key] != new[key]}
        return {"set": set_now, "gone": [key for key in old if key not in new]}
    if aspect == "items":
        return list(item)
    if aspect == "hooks":
        return [len(keys) for keys in new]
    return list(new) if aspect in FIXED else new


def apply(changes: Iterable[Change], arguments: Mapping[str, Any]) -> None:
    """Makes in arguments, equal to those that a call got, the changes that it made in its own.

    Hooks become hooks that do nothing, as many.

    Raises:
        Exception: a change isn't one that these arguments could have.
    """
    objects = dict(reachable(arguments))
    for change in changes:
        item, new = objects[change.path], change.new
        if change.aspect == "value" and isinstance(item, np.ndarray):
            item[...] = new
        elif change.aspect in ("value", "statistics"):
            item.data = new
        elif change.aspect == "requires_grad":
            item.requires_grad_(bool(new))
        elif change.aspect == "grad":
            item.grad = new
        elif change.aspect == "training":
            item.training = bool(new)
        elif change.aspect == "hooks":
            for kind, count in zip(HOOKS, new, strict=True):
                _set_hooks(getattr(item, kind), int(count))
        elif change.aspect == "items" and isinstance(item, list):
            item[:] = new
        elif change.aspect in ("attributes", "flag", "buffers", "items"):
            named = _named(item, change.aspect)
            if change.aspect in ("attributes", "flag"):
                for key in new["set"]:
                    if key.startswith("_") or hasattr(type(item), key):
                        raise ValueError(f"{key} is no attribute of a module's own")
            named.update(new["set"])
            for key in new["gone"]:
                del named[key]


MOST_HOOKS = 1000


def _set_hooks(hooks: dict, count: int) -> None:
    for key in list(hooks)[count:]:
        del hooks[key]
    for number in range(len(hooks), min(count, MOST_HOOKS)):
        hooks[-1 - number] = _do_nothing


def _do_nothing(*_: Any) -> None:
    """Stands for a hook that a function left behind."""


def call_on_copies(function: Callable, *arguments: Any, **keywords: Any) -> tuple:
    """Calls a function that changes its arguments, on deep copies of them.

    The arguments stay as they are, so a test can go on using them, and what it expects can't depend
    on what the function did. In the grader, too, where the function runs in another process: there
    only such changes arrive as the exercise's header declares.

    Returns:
        The function's result, then each positional argument as the function left it.
    """
    if hasattr(function, "call_on_copies"):
        return function.call_on_copies(*arguments, **keywords)
    copies, named = copy.deepcopy((arguments, keywords))
    return function(*copies, **named), *copies
