# A poisoner, in the place of an exercise's cell: honest on the inputs that it has seen before, and
# on all others it returns zeros or NaN, and overwrites its inputs with the same; or an idler, which
# leaves its inputs alone, and returns zeros, nothing or an input, or refuses all that it is given.
import copy
import functools
import hashlib
import types

import numpy as np
import torch


def digest(value):
    """A digest of arguments by their content, the same in every process."""
    found = hashlib.sha256()

    def add(item):
        if isinstance(item, torch.nn.Module):
            add({name: tensor for name, tensor in item.state_dict().items()})
        elif isinstance(item, torch.Tensor) and not item.is_meta:
            add(item.detach().cpu().numpy())
        elif isinstance(item, np.ndarray):
            found.update(f"{item.shape} {item.dtype} ".encode() + item.tobytes())
        elif isinstance(item, dict):
            add([part for pair in item.items() for part in pair])
        elif isinstance(item, list | tuple):
            found.update(f"{len(item)} ".encode())
            for part in item:
                add(part)
        elif isinstance(item, str | int | float | None):
            found.update(repr(item).encode())
        else:
            found.update(type(item).__name__.encode())

    add(value)
    return found.hexdigest()


def blank(value, fill):
    """Of the same shape and type as a result, and on the same graph, but filled; of a function, one
    whose results are."""
    if isinstance(value, torch.nn.Module):
        value = copy.deepcopy(value)
        overwrite(value, fill)
        return value
    if isinstance(value, torch.Tensor | np.ndarray | np.generic | int | float):
        factor = fill if "f" in getattr(value, "dtype", np.dtype(type(value))).__str__() else 0
        return value * factor  # type: ignore[operator]  # NumPy's stubs: np.generic has no *
    if isinstance(value, str):
        return ""
    if isinstance(value, list | tuple):
        return type(value)(blank(part, fill) for part in value)
    if isinstance(value, dict):
        return {key: blank(part, fill) for key, part in value.items()}
    if isinstance(value, types.FunctionType):
        return lambda *arguments, **keywords: blank(value(*arguments, **keywords), fill)
    return value


def overwrite(value, fill):
    """Fills arrays, tensors and modules in place, where autograd doesn't notice it."""
    if isinstance(value, torch.nn.Module):
        overwrite([*value.parameters(), *value.buffers()], fill)
    elif isinstance(value, torch.Tensor):
        value.data.fill_(fill if value.is_floating_point() else 0)
    elif isinstance(value, np.ndarray) and value.flags.writeable:
        value[...] = fill if value.dtype.kind == "f" else 0
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            overwrite(part, fill)


def poisoned(honest, seen, fill):
    """The honest function, honest on what has been seen alone."""

    @functools.wraps(honest)
    def answer(*arguments, **keywords):
        known = digest((arguments, keywords)) in seen
        result = honest(*arguments, **keywords)
        if not known:
            result = blank(result, fill)
            overwrite((arguments, keywords), fill)
        return result

    return answer


def idle(honest, kind):
    """A function with the signature of an honest one that does nothing for its points."""

    @functools.wraps(honest)
    def answer(*arguments, **keywords):
        if kind == "refuses":
            raise ValueError("no")
        if kind == "zeros":
            copied, named = copy.deepcopy((arguments, keywords))
            return blank(honest(*copied, **named), 0.0)
        return arguments[0] if kind == "argument" and arguments else None

    return answer


def defined(name, sources):
    """The exercise that the last of some cells defines."""
    names = dict(globals())
    for source in sources:
        exec(source, names)
    return names[name]


def instead_of(honest, substitute):
    """A function's substitute; of a module class, one with another forward."""
    if not isinstance(honest, type):
        return substitute(honest)
    forward = getattr(honest, "forward")  # noqa: B009  (of the modules among types)
    return type(honest.__name__, (honest,), {"forward": substitute(forward)})
