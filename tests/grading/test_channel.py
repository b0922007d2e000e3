"""Whatever a worker sends, it is data or an error: nothing runs, hangs or fills the memory."""

import contextlib
import io
import json
import pickle
import struct
import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.grading import channel, sandbox
from autograder.grading.channel import ChannelError, Encoder, Handle, decode
from autograder.grading.sandbox import ERRORS, StudentError, Worker

NOTHING = safetensors.numpy.save({})
DATA = (type(None), bool, int, float, str, list, tuple, dict, np.ndarray, np.generic, torch.Tensor)

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
names = st.sampled_from(
    ["array", "scalar", "tensor", "handle", "list", "tuple", "dict", "kind", "eval", "__class__"]
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(names, inner, max_size=3)
        | st.dictionaries(names, st.lists(st.tuples(inner, inner), max_size=3), max_size=1)
    ),
    max_leaves=20,
)


def soon() -> float:
    return time.monotonic() + 5


def is_data(value) -> bool:
    if type(value) in (list, tuple):
        return all(map(is_data, value))
    if type(value) is dict:
        return all(map(is_data, [*value, *value.values()]))
    return type(value) is Handle or isinstance(value, DATA)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["result", "error", "changes"]), trees, max_size=3))
def test_any_tree_is_data_or_refused(reply) -> None:
    arrays = safetensors.numpy.save({"0": np.arange(3.0), "1": np.array(2)})
    tensors = safetensors.torch.save({"0": torch.ones(2)})
    with contextlib.suppress(ChannelError):
        assert is_data(decode(json.dumps(reply).encode(), arrays, tensors, soon()))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_any_bytes_are_data_or_refused(tree: bytes, body: bytes, size: int) -> None:
    for arrays in (body, struct.pack("<Q", size) + body, struct.pack("<Q", len(body)) + body):
        for blobs in ((arrays, NOTHING), (NOTHING, arrays)):
            for text in (tree, b'{"result": {"array": "0"}}', b"{}"):
                with contextlib.suppress(ChannelError):
                    assert is_data(decode(text, *blobs, soon()))


headers = st.dictionaries(
    st.text(max_size=4),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F64", "BOOL", "U8", "BF16", "F8_E4M3", "X"]),
            "shape": st.lists(st.integers(-1, 2**62), max_size=40),
            "data_offsets": st.lists(st.integers(-1, 2**62), min_size=0, max_size=3),
        }
    ),
    max_size=3,
)


@settings(max_examples=200, deadline=None)
@given(headers, st.binary(max_size=64))
def test_any_header_of_arrays_is_data_or_refused(header: dict, body: bytes) -> None:
    text = json.dumps(header).encode()
    blob = struct.pack("<Q", len(text)) + text + body
    tree = json.dumps({"result": [{"array": name} for name in header]}).encode()
    for blobs in ((blob, NOTHING), (NOTHING, blob)):
        with contextlib.suppress(ChannelError):
            assert is_data(decode(tree, *blobs, soon()))


values = st.recursive(
    leaves.filter(lambda value: value == value),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(-99, 99), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(values)
def test_data_arrives_as_it_was_sent(value) -> None:
    encoder = Encoder([])
    tree = json.dumps({"result": encoder.encode(value)}).encode()
    assert decode(tree, NOTHING, NOTHING, soon()) == {"result": value}
    assert not encoder.kept


FLOODS = {
    "one array many times": (
        {"list": [{"array": "0"}] * 30},
        {"0": np.zeros(10**6)},
        "isn't a result",
    ),
    "equal keys": ({"dict": [[["k"] * 10, {"array": "0"}]] * 300}, {"0": np.zeros(3)}, "keys"),
    "many keys": ({"dict": [[n, None] for n in range(20_000)]}, {}, "too many keys"),
    "colliding keys": ({"dict": [[n * (2**61 - 1), 0] for n in range(9_000)]}, {}, "keys aren't"),
    "many parts": ({"list": [None] * 300_000}, {}, "too many parts"),
    "many empty arrays": (None, {str(n): np.zeros(0) for n in range(12_000)}, "too many arrays"),
    "deep": (json.loads('{"list":[' * 60 + "]}" * 60), {}, "too deep"),
    "many axes": ({"array": "0"}, {"0": np.zeros((1,) * 40)}, "too many axes"),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_what_a_reply_may_hold_is_bounded(flood: str) -> None:
    tree, arrays, said = FLOODS[flood]
    text, blob = json.dumps({"result": tree}).encode(), safetensors.numpy.save(arrays)
    tracemalloc.start()
    try:
        with pytest.raises(ChannelError, match=said):
            decode(text, blob, NOTHING, soon())
        assert tracemalloc.get_traced_memory()[1] < 3 * (len(blob) + 40 * len(text)) + 2**24
    finally:
        tracemalloc.stop()


def test_decoding_ends_with_the_deadline() -> None:
    tree = json.dumps({"result": {"list": [None] * 5000}}).encode()
    with pytest.raises(TimeoutError):
        decode(tree, NOTHING, NOTHING, time.monotonic() - 1)


class _Socket:
    """Gives one byte at each call, for ever."""

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def recv_into(self, view) -> int:
        view[:1] = b"\0"
        return 1


def test_bytes_that_drip_end_with_the_deadline() -> None:
    with pytest.raises(TimeoutError):
        channel._receive(_Socket(), 10**9, time.monotonic() + 0.2)


@pytest.mark.parametrize(
    "kind",
    ["exec", "eval", "exit", "open", "input", "__import__", "print", "Exception", "SystemExit",
     "BaseException", "ExceptionGroup", "UnicodeDecodeError", "nonsense", "", "ERRORS"],
)  # fmt: skip
def test_no_kind_of_error_is_called_unless_it_is_listed(kind: str) -> None:
    worker = Worker(None, None, 0.0, SimpleNamespace(memory_kills=lambda: 0))
    message = "raise SystemExit('executed')"
    error = worker._error({"kind": kind, "message": message, "title": "x", "line": 1})
    assert type(error) is StudentError
    assert error.args == (message,)


@pytest.mark.parametrize("kind", ERRORS)
def test_listed_errors_are_exceptions_with_a_message(kind: str) -> None:
    worker = Worker(None, None, 0.0, SimpleNamespace(memory_kills=lambda: 0))
    error = worker._error({"kind": kind, "message": "said", "title": "x", "line": 1})
    assert type(error) is ERRORS[kind]
    assert issubclass(type(error), Exception)
    assert error.args == ("said",)
    assert error.student_place == ""


TENSORS = {
    "plain": torch.arange(6.0).reshape(2, 3),
    "no axes": torch.tensor(2.5),
    "no values": torch.ones(0, 3),
    "needs a gradient": torch.ones(2, requires_grad=True),
    "parameter": torch.nn.Parameter(torch.ones(2, 2)),
    "frozen parameter": torch.nn.Parameter(torch.ones(2), requires_grad=False),
    "integers": torch.tensor([2**40]),
    "bits": torch.tensor([True, False]),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "expanded": torch.ones(1, 3).expand(4, 3),
    "channels last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "a part": torch.arange(10)[3:7],
    "bfloat16": torch.ones(2, dtype=torch.bfloat16),
    "complex": torch.ones(2, dtype=torch.complex64),
    "no data": torch.ones(2, device="meta"),
}


@pytest.mark.parametrize("what", TENSORS)
def test_a_request_carries_a_tensor_as_it_is(what: str) -> None:
    tensor = TENSORS[what]
    pickled = io.BytesIO()
    sandbox._Pickler(pickled, protocol=pickle.HIGHEST_PROTOCOL).dump([tensor, tensor])
    first, again = pickle.loads(pickled.getvalue())
    assert first is again
    for property in ("dtype", "device", "shape", "requires_grad", "is_leaf"):
        assert getattr(first, property) == getattr(tensor, property)
    assert type(first) is type(tensor)
    assert first.stride() == tensor.stride()
    assert first.is_meta or torch.equal(first, tensor)
    if not first.is_meta and first.is_contiguous():
        before = tensor.detach().clone()
        first.data.logical_not_() if first.dtype == torch.bool else first.data.add_(1)
        assert torch.equal(tensor, before)  # The copy has memory of its own, and can be written to.
