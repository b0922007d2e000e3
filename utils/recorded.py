"""What a notebook's tests expect: computed when the lab was released, kept in a file beside it.

labs/NN_name.safetensors holds the arrays, and in its metadata, as JSON, all else: for every test
cell its version and, for each of its regions, the values of each time that the region ran.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save

PLAIN = (bool, int, float, str, type(None))
TORCH_DTYPES = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.float32, torch.float64),
)


class Recorded:
    """What one test cell expects, value after value; made anew each time the cell runs.

    Args:
        lab: the lab's name.
        test: the test cell's grade id.
        version: that the recorded values must have: one of the cell's text.

    Raises:
        FileNotFoundError: the lab's file of values isn't where the labs are.
        ValueError: the file belongs to another version of the notebook.
    """

    def __init__(self, lab: str, test: str, version: str) -> None:
        path = _find(f"{lab}.safetensors")
        cell = load(path.read_bytes())["cells"].get(test)
        if cell is None or cell["version"] != version:
            raise ValueError(
                f"this notebook and {path.name} are of different versions: get both anew; your"
                " own cells can be copied over"
            )
        self._passages = [iter(passages) for passages in cell["regions"]]

    def __call__(self, region: int = 1) -> Any:
        """The next values of a region, the cell's first if not told: one value, or a tuple where
        the region has several names, in their alphabetical order."""
        values = next(self._passages[region - 1], None)
        if values is None:
            raise ValueError("the test asks for more values than were recorded with the solution")
        return tuple(values.values()) if len(values) > 1 else next(iter(values.values()))


def _find(name: str) -> Path:
    """The file of values: beside the notebook, or in labs/ beside utils/, or above the notebook."""
    here = Path.cwd()
    labs = [
        folder / "labs" for folder in (Path(__file__).resolve().parents[1], here, *here.parents)
    ]
    for folder in (here, *labs):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{name} was not found: it belongs beside this notebook, in the course's folder labs/"
    )


def load(data: bytes) -> dict[str, Any]:
    """What a file of values holds: `{"source": digest, "cells": {grade id: {"version": digest,
    "regions": [[{name: value}, …], …]}}}`."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # safetensors' own
    content, arrays = json.loads(header["__metadata__"]["recorded"]), load_arrays(data)
    for cell in content["cells"].values():
        cell["regions"] = [
            [
                {name: _decoded(value, arrays) for name, value in passage.items()}
                for passage in passages
            ]
            for passages in cell["regions"]
        ]
    return content


class Writer:
    """Makes the bytes that `load` reads; the same for the same values."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def encode(self, value: Any, place: str) -> Any:
        """A value as JSON; the arrays in it go by name, equal ones by the same.

        Args:
            place: what to call the value.

        Raises:
            TypeError: there is something in it that isn't data; the message says where.
        """
        if type(value) in PLAIN:
            return value
        if type(value) is list:
            return [self.encode(part, f"{place}[{i}]") for i, part in enumerate(value)]
        if type(value) in (tuple, torch.Size):
            return {"tuple": self.encode(list(value), place)}
        if type(value) is dict:
            return {
                "dict": [
                    [self.encode(key, place), self.encode(part, f"{place}[{key!r}]")]
                    for key, part in value.items()
                ]
            }
        if isinstance(value, torch.Tensor):
            if value.dtype not in TORCH_DTYPES:
                raise TypeError(f"{place} is a tensor of {value.dtype}, which can't be recorded")
            kind, array = "tensor", value.detach().cpu().numpy()
        elif isinstance(value, np.ndarray | np.generic):
            kind, array = "array" if isinstance(value, np.ndarray) else "scalar", np.asarray(value)
            if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
                raise TypeError(f"{place} is an array of {array.dtype}, which can't be recorded")
        else:
            raise TypeError(f"{place} is of type {type(value).__name__}, which can't be recorded")
        dtype = array.dtype.newbyteorder("=")
        stored = (dtype.str, array.shape, array.astype(dtype).tobytes())
        return {kind: self._names.setdefault(stored, f"{len(self._names):05}")}

    def dump(self, content: Any) -> bytes:
        """The file for a content as `load` gives it, but with the values encoded."""
        arrays = {
            name: np.frombuffer(data, dtype).reshape(shape)
            for (dtype, shape, data), name in self._names.items()
        }
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return save(arrays, metadata={"recorded": text})


def _decoded(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_decoded(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tuple":
        return tuple(_decoded(content, arrays))
    if kind == "dict":
        return {_decoded(key, arrays): _decoded(part, arrays) for key, part in content}
    array = arrays[content].copy()  # The tests may change what they got.
    return array if kind == "array" else array[()] if kind == "scalar" else torch.from_numpy(array)


def differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """Where two contents differ, one sentence each.

    Types, shapes, dtypes, texts and whole numbers must be the same; floating-point values up to
    what processors round differently.
    """
    if type(old) is not type(new):
        yield f"{place} is {type(new).__name__}, it was {type(old).__name__}"
    elif isinstance(old, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key not in old or key not in new:
                yield f"{place}[{key!r}] is {'new' if key in new else 'gone'}"
            else:
                yield from differences(old[key], new[key], f"{place}[{key!r}]")
    elif isinstance(old, list | tuple):
        if len(old) != len(new):
            yield f"{place} has {len(new)} values, it had {len(old)}"
        for number, (before, after) in enumerate(zip(old, new, strict=False)):
            yield from differences(before, after, f"{place}[{number}]")
    elif isinstance(old, np.ndarray | np.generic | torch.Tensor | float):
        before, after = np.asarray(old), np.asarray(new)
        if (before.shape, before.dtype) != (after.shape, after.dtype):
            yield f"{place} is {after.dtype}{after.shape}, it was {before.dtype}{before.shape}"
        elif not _close(before, after):
            yield f"{place} has other values"
    elif old != new:
        yield f"{place} is {new!r}, it was {old!r}"


def _close(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether values agree up to rounding, relative to the largest; a value in float64 may come
    from a network in float32."""
    if before.dtype.kind != "f":
        return np.array_equal(before, after)
    tolerance = 1e-5 if before.dtype == np.float64 else 1e-4 if before.dtype == np.float32 else 1e-2
    finite = np.isfinite(before)
    if not np.array_equal(before[~finite], after[~finite], equal_nan=True):
        return False
    largest = np.max(np.abs(before[finite]), initial=0.0)
    return bool(np.all(np.abs(before[finite] - after[finite]) <= tolerance * largest))
