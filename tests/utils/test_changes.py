"""Tests of utils.changes: what a call does to its arguments is seen, said and made again."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from utils.changes import ASPECTS, Change, Snapshot, apply, call_on_copies


def network() -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU()).eval()
    model.names = ["a"]  # type: ignore[assignment]
    return model


def set_item(values: Any, key: Any, value: Any) -> None:
    values[key] = value


# What is done to `a`, with a fresh one, which path changes, and in which aspect.
CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], object], str, str]] = {
    "array": (lambda: np.ones(3), lambda a: set_item(a, 0, 2), "a", "value"),
    "tensor": (lambda: torch.ones(3), lambda a: a.mul_(2), "a", "value"),
    "behind autograd": (lambda: torch.ones(3), lambda a: a.data.zero_(), "a", "value"),
    "shape": (lambda: torch.ones(3), lambda a: a.resize_(1, 3), "a", "value"),
    "NaN": (lambda: torch.ones(2), lambda a: a.fill_(torch.nan), "a", "value"),
    "requires_grad": (lambda: torch.ones(3), lambda a: a.requires_grad_(), "a", "requires_grad"),
    "grad": (
        lambda: torch.ones(3, requires_grad=True),
        lambda a: a.sum().backward(),
        "a",
        "grad",
    ),
    "mode": (network, lambda a: a[1].train(), "a.1", "training"),
    "hook": (network, lambda a: a[0].register_forward_hook(print), "a.0", "hooks"),
    "attribute": (network, lambda a: setattr(a[2], "inplace", True), "a.2", "attributes"),
    "frozen module": (network, lambda a: setattr(a, "requires_grad", False), "a", "flag"),
    "buffer": (network, lambda a: a[1].register_buffer("b", torch.ones(1)), "a.1", "buffers"),
    "statistics": (network, lambda a: a[1].running_mean.add_(1), "a.1.running_mean", "statistics"),
    "parameter": (
        network,
        lambda a: setattr(a[0], "bias", nn.Parameter(torch.ones(2))),
        "a.0",
        "parameters",
    ),
    "module": (network, lambda a: set_item(a, 2, nn.Tanh()), "a", "modules"),
    "list": (lambda: [1, 2], lambda a: a.append(3), "a", "items"),
    "list in a module": (network, lambda a: a.names.append("b"), "a.names", "items"),
    "dict": (lambda: {"x": 1, "y": 2}, lambda a: a.pop("x"), "a", "items"),
    "deep": (
        lambda: [{"x": [torch.ones(1)]}],
        lambda a: a[0]["x"][0].zero_(),
        "a[0]['x'][0]",
        "value",
    ),
    "settings": (lambda: 0, lambda a: torch.set_grad_enabled(False), "torch", "settings"),
}


def noticed(make: Callable[[], Any], change: Callable[[Any], object]) -> tuple[Any, list]:
    value = make()
    before = Snapshot({"a": value})
    change(value)
    return value, before.changes()


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_noticed_and_said(what: str) -> None:
    make, change, path, aspect = CHANGES[what]
    _, changes = noticed(make, change)
    assert [(found.path, found.aspect) for found in changes] == [(path, aspect)]
    assert changes[0].sentence() == f"`{path}` {ASPECTS[aspect]}."
    assert torch.is_grad_enabled()  # put back


def test_every_aspect_occurs_above() -> None:
    assert {aspect for *_, aspect in CHANGES.values()} == set(ASPECTS)


@pytest.mark.parametrize("make", [network, lambda: np.array([1, np.nan]), lambda: [torch.ones(2)]])
def test_nothing_is_noticed_where_nothing_changes(make: Callable[[], Any]) -> None:
    assert noticed(make, copy.deepcopy)[1] == []


@pytest.mark.parametrize(
    "what", [what for what in CHANGES if what not in ("parameter", "module", "settings")]
)
def test_a_change_can_be_made_again_elsewhere(what: str) -> None:
    make, change, _, _ = CHANGES[what]
    _, changes = noticed(make, change)
    _, again = noticed(make, lambda fresh: apply(changes, {"a": fresh}))
    assert [str(found) for found in again] == [str(found) for found in changes] != []


def test_what_an_exercise_may_change() -> None:
    def found(what: str) -> Any:
        make, change, *_ = CHANGES[what]
        return noticed(make, change)[1][0]

    assert found("mode").is_allowed(["a"])
    assert found("mode").is_allowed(["a.training"])
    assert not found("mode").is_allowed(["a.hooks", "b"])
    assert not found("module").is_allowed(["a"])  # only where it is said
    assert found("module").is_allowed(["a.modules"])


def test_calls_on_copies_leave_the_arguments_alone() -> None:
    x = torch.ones(2)
    result, changed = call_on_copies(lambda value: value.mul_(2).sum(), x)
    assert (x.tolist(), changed.tolist(), result.item()) == ([1, 1], [2, 2], 4)


@pytest.mark.parametrize("name", ["forward", "_parameters", "state_dict"])
def test_no_change_gives_a_module_another_way_to_compute(name: str) -> None:
    change = Change("model", "attributes", {"set": {name: 1}, "gone": []})
    with pytest.raises(ValueError, match=name):
        apply([change], {"model": torch.nn.ReLU()})
