"""The rules that hold while a test calls a student's function."""

import traceback

import numpy as np
import pytest
import torch

from utils.guard import check_without, checked, one_image, unchecked


def pair(x, y=None, *, mode="same"):
    """A function with a name and parameters."""
    return x if y is None else (x, y, mode)


def test_a_guarded_function_is_still_itself() -> None:
    guarded = checked(pair)
    assert guarded(1, y=2) == (1, 2, "same")
    assert (guarded.__name__, guarded.__doc__) == ("pair", pair.__doc__)
    twice = checked(guarded)
    assert twice.__wrapped__ is pair
    assert unchecked(twice) is pair
    assert unchecked(pair) is pair


@pytest.mark.parametrize("thing", [None, 3, "text", torch.nn.Linear, [1]], ids=repr)
def test_classes_and_values_are_left_alone(thing) -> None:
    assert checked(thing) is thing
    assert unchecked(thing) is thing


def add_in_place(x):
    x += 1
    return x


def zero_gradient(model):
    next(model.parameters()).grad = torch.zeros(1, 1)


def test_an_argument_that_was_changed_is_told() -> None:
    with pytest.raises(AssertionError, match=r"`x` was modified in place: work on a copy"):
        checked(add_in_place)(np.ones(2))
    with pytest.raises(AssertionError, match=r"`x` was modified in place"):
        checked(add_in_place)(x=torch.ones(2))
    assert checked(add_in_place, changes=("x",))(np.ones(2)).tolist() == [2, 2]
    model = torch.nn.Linear(1, 1)
    with pytest.raises(AssertionError, match=r"`model.weight` was left with another .grad"):
        checked(zero_gradient)(model)


def fails(images, labels=None, pad=0):
    return images[7], labels, pad


def only_one(X, y):
    assert len(X) == 1
    return X[0] + y[0]


def note(function, *arguments, **keywords) -> str:
    """What the guard adds to the exception that a call ends in."""
    with pytest.raises(Exception) as error:
        checked(function)(*arguments, **keywords)
    (said,) = error.value.__notes__
    frames = [frame.name for frame in traceback.extract_tb(error.value.__traceback__)]
    assert frames[-1] == function.__name__  # the student's traceback is all there
    return said


def test_an_exception_tells_its_call() -> None:
    said = note(fails, np.zeros((2, 3, 4)), labels=[1, 2], pad=1)
    assert said == (
        "fails(images of shape (2, 3, 4), labels=[1, 2], pad=1) raised IndexError: index 7 is out"
        " of bounds for axis 0 with size 2"
    )
    assert note(fails, {}, labels=pair) == "fails(images={}, labels) raised KeyError: 7"


def test_an_exception_keeps_its_type_and_its_message() -> None:
    def refuses(x):
        raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no") as error:
        checked(refuses)(torch.tensor(3.0))
    assert error.value.args == ("no",)


def test_a_batch_that_only_works_with_one_image() -> None:
    images, labels = torch.zeros(2, 3, 4, 4), torch.tensor([1, 2])
    assert note(only_one, images, labels).endswith("; it works for one image only")
    assert "one image" not in note(fails, images)
    images[1] = 1
    before = images.clone()
    one = one_image({"X": images, "y": labels, "w": torch.ones(3), "mode": [1]})
    assert {key: getattr(value, "shape", value) for key, value in one.items()} == {
        **{"X": (1, 3, 4, 4), "y": (1,), "w": (3,), "mode": [1]}
    }
    one["X"] += 1
    assert torch.equal(images, before)
    for shape in (1, 3, 4, 4), (2, 3), (4,):
        assert one_image({"x": torch.zeros(shape)}) is None


def test_a_call_that_does_not_fit_tells_itself() -> None:
    with pytest.raises(TypeError) as error:
        checked(fails)(1, 2, 3, 4)
    assert error.value.__notes__[0].startswith("fails(argument 1=1, argument 2=2,")


def test_a_stub_tells_nothing() -> None:
    def stub():
        raise NotImplementedError

    with pytest.raises(NotImplementedError) as error:
        checked(stub)()
    assert not hasattr(error.value, "__notes__")


def test_only_the_innermost_call_is_told() -> None:
    inner = checked(fails)

    def outer(x):
        return inner(x)

    with pytest.raises(IndexError) as error:
        checked(outer)(np.zeros(2))
    assert [said.split("(")[0] for said in error.value.__notes__] == ["fails"]


def test_check_without(monkeypatch) -> None:
    cells = {"one": "import numpy as np", "two": "def pair(x):\n    return np.convolve(x, x)"}
    monkeypatch.setattr("utils.guard.notebook_sources", lambda: cells)
    check_without(checked(pair, without=("torch",)))
    with pytest.raises(AssertionError, match=r"^pair: line 2 calls `numpy.convolve`"):
        check_without(checked(pair, without=("numpy.convolve",)))
