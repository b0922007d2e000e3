"""Recorded values come back as they were, in order, from the right file."""

from pathlib import Path

import numpy as np
import pytest
import torch

from utils import recorded as module
from utils.recorded import Recorded, Writer, differences, load

VALUES = [
    *(None, True, 3, -(2**70), 0.1, float("nan"), float("inf"), "é\n", [], (), {}, (1, [2, (3,)])),
    {"text": 1, 2: "key", (3, 4): None, None: 0.5},
    np.arange(6.0).reshape(2, 3)[:, ::-1],
    np.array([[-0.0, np.nan, -np.inf]], dtype=np.float32),
    *(np.array(2.5), np.zeros((0, 3)), np.float32(1 / 3), np.int64(7), np.bool_(True)),
    *(np.array([True, False]), np.arange(3, dtype=np.uint8), np.arange(3, dtype=">i4")),
    *(torch.arange(6.0).reshape(2, 3).T, torch.tensor(1.5, dtype=torch.float64)),
    *(torch.tensor([True]), torch.tensor([2**40]), torch.ones(2, dtype=torch.float16)),
    torch.ones(3, requires_grad=True) * 2,
]


def stored(regions: list, version: str = "v1") -> bytes:
    """A file with one test cell; regions are lists of dicts of values."""
    writer = Writer()
    encoded = [
        [
            {name: writer.encode(value, name) for name, value in values.items()}
            for values in passages
        ]
        for passages in regions
    ]
    return writer.dump(
        {"source": "s", "cells": {"test_f": {"version": version, "regions": encoded}}}
    )


def values_of(data: bytes) -> list:
    return load(data)["cells"]["test_f"]["regions"]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_exactly(value) -> None:
    ((values,),) = values_of(stored([[{"value": value}]]))
    back = values["value"]
    assert type(back) is type(value)
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        old, new = (
            np.asarray(value.detach() if hasattr(value, "detach") else value),
            np.asarray(back),
        )
        assert (new.shape, new.dtype) == (old.shape, old.dtype.newbyteorder("="))
        assert new.tobytes() == old.astype(new.dtype).tobytes()
    else:
        assert back == value or value != value


def test_same_values_same_bytes_and_stored_once() -> None:
    big = np.arange(1000.0)
    assert stored([[{"a": big, "b": big.copy()}]]) == stored([[{"a": big, "b": big}]])
    assert len(stored([[{"a": big, "b": big.copy()}]])) < 9000


@pytest.fixture
def labs(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a lab's values, in which the notebook runs."""
    data = stored([[{"a": np.array([1.0])}, {"a": np.array([2.0])}], [{"b": 3, "c": "d"}]])
    (tmp_path / "77_lab.safetensors").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_values_are_fetched_in_order_each_time_that_the_cell_runs(labs: Path) -> None:
    for _ in range(2):
        recorded = Recorded("77_lab", "test_f", "v1")
        first = recorded()
        assert first.tolist() == [1.0]
        first += 5  # what a test does to its values is undone by the next run
        assert recorded(2) == (3, "d")
        assert recorded().tolist() == [2.0]
    with pytest.raises(ValueError, match="more values than were recorded"):
        recorded()


@pytest.mark.parametrize(("test", "version"), [("test_f", "v2"), ("test_g", "v1")])
def test_a_notebook_of_another_version_is_told(labs: Path, test: str, version: str) -> None:
    with pytest.raises(ValueError, match=r"notebook and 77_lab.safetensors are of different versi"):
        Recorded("77_lab", test, version)


def test_where_the_file_is_found(labs: Path, tmp_path_factory, monkeypatch) -> None:
    course = tmp_path_factory.mktemp("course")
    (course / "labs").mkdir()
    (course / "autograded" / "ada" / "77_lab").mkdir(parents=True)
    monkeypatch.chdir(course / "autograded" / "ada" / "77_lab")
    with pytest.raises(FileNotFoundError, match="belongs beside this notebook"):
        Recorded("77_lab", "test_f", "v1")
    (course / "labs" / "77_lab.safetensors").write_bytes(stored([[{"a": 1}]]))
    assert Recorded("77_lab", "test_f", "v1")() == 1  # above
    monkeypatch.setattr(module, "__file__", str(labs / "utils" / "recorded.py"))
    (labs / "labs").mkdir()
    (labs / "labs" / "77_lab.safetensors").write_bytes(stored([[{"a": 2}]]))
    assert Recorded("77_lab", "test_f", "v1")() == 2  # beside utils/
    Path("77_lab.safetensors").write_bytes(stored([[{"a": 3}]]))
    assert Recorded("77_lab", "test_f", "v1")() == 3  # beside the notebook


BASE = {"a": np.array([1.0, 1000.0]), "b": [1, "x", (0.5, np.nan)], "c": torch.ones(2)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"a": np.array([1.0 + 1e-4, 1000.0])}, None),  # rounding, next to the largest
        ({"a": np.array([1.1, 1000.0])}, "['a'] has other values"),
        ({"a": np.array([np.nan, 1000.0])}, "['a'] has other values"),
        ({"a": np.array([1, 1000])}, "['a'] is int64(2,), it was float64(2,)"),
        ({"a": np.array([1.0])}, "['a'] is float64(1,), it was float64(2,)"),
        ({"b": [1, "x", (0.5, 0.5)]}, "['b'][2][1] has other values"),
        ({"b": [1, "y", (0.5, np.nan)]}, "['b'][1] is 'y', it was 'x'"),
        ({"b": [2, "x", (0.5, np.nan)]}, "['b'][0] is 2, it was 1"),
        ({"b": [1, "x"]}, "['b'] has 2 values, it had 3"),
        ({"c": np.ones(2, dtype=np.float32)}, "['c'] is ndarray, it was Tensor"),
        ({"d": 1}, "['d'] is new"),
        ({"c": ...}, "['c'] is gone"),
    ],
)
def test_differences(change: dict, said: str | None) -> None:
    changed = {key: value for key, value in (BASE | change).items() if value is not ...}
    assert list(differences(BASE, changed)) == ([] if said is None else [said])
