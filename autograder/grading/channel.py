"""Messages between the tester, which is trusted, and the worker, which runs a student's code.

Requests travel as pickles, from the trusted side only. Replies are data only: a JSON tree, and
beside it the arrays and tensors that the tree refers to, as safetensors. Nothing that a worker
sends is ever unpickled, executed, looked up or called, and whatever isn't plain data comes back as
a handle. What a reply may hold is bounded in count, size, depth and time.
"""

import json
import socket
import struct
import time
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch

HEADER = struct.Struct("!III")  # bytes of: JSON or pickle, arrays, tensors
MOST_BYTES = 128 * 2**20  # of one reply's arrays and tensors; decoding needs three times as much
MOST_TREE_BYTES = 4 * 2**20
MOST_NAMES_BYTES = 2**20  # of the names, shapes and dtypes of one reply's arrays
MOST_NODES = 200_000  # of the tree, each value and key counted
MOST_ARRAYS = 10_000
MOST_KEYS = 10_000  # of one dict
MOST_RANK = 32
MOST_DEPTH = 32
LARGEST_KEY = 2**53  # Larger integers can be made to collide, which makes a dict quadratic.
ARRAY_DTYPES = {
    *(torch.float32, torch.float64, torch.float16, torch.bool, torch.uint8),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
}


class ChannelError(Exception):
    """The other side sent something that isn't a message, or more than a message may hold."""


class Handle:
    """What the trusted side gets for an object that stays in the worker."""

    def __init__(self, number: int, kind: str) -> None:
        self.number, self.kind = number, kind


class Encoder:
    """Turns values into a JSON tree, arrays and tensors; keeps what can't be turned in `kept`."""

    def __init__(self, kept: list) -> None:
        self.kept = kept
        self.arrays: dict[str, np.ndarray] = {}
        self.tensors: dict[str, torch.Tensor] = {}

    def encode(self, value: Any, depth: int = 0) -> Any:
        """The JSON tree of a value; each array and tensor in it gets a name of its own."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str(value)
        if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biuf":
            name = str(len(self.arrays))
            native = np.asarray(value, dtype=value.dtype.newbyteorder("="))
            self.arrays[name] = native.copy(order="C")
            return {"scalar" if isinstance(value, np.generic) else "array": name}
        if isinstance(value, int | float):
            return int(value) if isinstance(value, int) else float(value)
        if isinstance(value, torch.Tensor) and _travels(value):
            name = str(len(self.tensors))
            self.tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            return {"tensor": name}
        if depth < MOST_DEPTH:
            if isinstance(value, list | tuple):
                kind = "list" if isinstance(value, list) else "tuple"
                return {kind: [self.encode(item, depth + 1) for item in value]}
            if isinstance(value, dict) and all(_is_key(key) for key in value):
                return {
                    "dict": [[key, self.encode(item, depth + 1)] for key, item in value.items()]
                }
        self.kept.append(value)
        return {"handle": len(self.kept) - 1, "kind": type(value).__name__[:100]}


def _travels(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and not (tensor.is_complex() or tensor.is_meta)


def _is_key(key: Any) -> bool:
    return key is None or type(key) in (bool, int, float, str)


def send_reply(connection: socket.socket, reply: dict, kept: list) -> None:
    """Sends a reply, a dict of values by name; what can't travel is appended to `kept`."""
    encoder = Encoder(kept)
    tree = json.dumps({key: encoder.encode(value) for key, value in reply.items()}).encode()
    arrays = safetensors.numpy.save(encoder.arrays)
    tensors = safetensors.torch.save(encoder.tensors)
    connection.sendall(HEADER.pack(len(tree), len(arrays), len(tensors)) + tree + arrays + tensors)


def receive_reply(connection: socket.socket, deadline: float) -> dict[str, Any]:
    """Receives a reply from a worker and checks every part of it.

    Raises:
        TimeoutError: the deadline (on time.monotonic's clock) passed.
        EOFError: the worker is gone.
        ChannelError: what came isn't a reply.
    """
    sizes = HEADER.unpack(_receive(connection, HEADER.size, deadline))
    if sizes[0] > MOST_TREE_BYTES or sizes[1] + sizes[2] > MOST_BYTES:
        raise ChannelError(f"a result of {sum(sizes) / 2**20:.0f} MiB, which is too large")
    tree, arrays, tensors = (_receive(connection, size, deadline) for size in sizes)
    return decode(tree, arrays, tensors, deadline)


def decode(tree: bytes, arrays: bytes, tensors: bytes, deadline: float) -> dict[str, Any]:
    """A reply's values by name.

    Raises:
        TimeoutError: the deadline (on time.monotonic's clock) passed.
        ChannelError: the bytes aren't a reply.
    """
    for names in (arrays, tensors):
        if int.from_bytes(names[:8], "little") > MOST_NAMES_BYTES:
            raise ChannelError("a result of too many arrays")
    try:
        reply = json.loads(tree)
        decoder = _Decoder(
            safetensors.numpy.load(arrays), safetensors.torch.load(tensors), deadline
        )
        return {str(key): decoder.decode(value) for key, value in reply.items()}
    except (ChannelError, TimeoutError):
        raise
    except Exception as error:
        raise ChannelError("something that isn't a result") from error


class _Decoder:
    """Builds values from exact types only. Each array is given out once."""

    def __init__(
        self, arrays: dict[str, np.ndarray], tensors: dict[str, torch.Tensor], deadline: float
    ) -> None:
        if len(arrays) + len(tensors) > MOST_ARRAYS:
            raise ChannelError("a result of too many arrays")
        self._arrays, self._tensors, self._deadline = arrays, tensors, deadline
        self._nodes = 0

    def decode(self, node: Any, depth: int = 0) -> Any:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise ChannelError("a result of too many parts")
        if self._nodes % 1000 == 0 and time.monotonic() > self._deadline:
            raise TimeoutError
        if node is None or type(node) in (bool, int, float, str):
            return node
        if depth > MOST_DEPTH:
            raise ChannelError("a result that is nested too deep")
        ((kind, content), *rest) = node.items()
        if kind in ("array", "scalar"):
            array = self._arrays.pop(content)
            if array.ndim > MOST_RANK:
                raise ChannelError("an array of too many axes")
            return array.copy() if kind == "array" else array[()]
        if kind == "tensor":
            return self._tensors.pop(content).clone()
        if kind == "handle":
            return Handle(int(content), str(dict(rest)["kind"])[:100])
        if kind == "dict":
            if len(content) > MOST_KEYS:
                raise ChannelError("a dict of too many keys")
            return {_key(key): self.decode(item, depth + 1) for key, item in content}
        items = [self.decode(item, depth + 1) for item in content]
        return {"list": items, "tuple": tuple(items)}[kind]


def _key(key: Any) -> Any:
    if not _is_key(key) or (type(key) is int and abs(key) > LARGEST_KEY):
        raise ChannelError("a dict whose keys aren't numbers or strings")
    return key


def reduce_tensor(item: Any) -> tuple | None:
    """How a request's pickle holds a tensor that is nothing but numbers: as a NumPy array, which
    takes a tenth of the time of PyTorch's own way. None for what that way has to take."""
    if type(item) not in (torch.Tensor, torch.nn.Parameter) or item.layout != torch.strided:
        return None
    if item.device.type != "cpu" or item.dtype not in ARRAY_DTYPES or not item.is_contiguous():
        return None
    if item.is_neg() or item.is_conj() or item._backward_hooks or item.__dict__:
        return None
    return _rebuilt, (type(item), item.detach().numpy(), item.requires_grad)


def _rebuilt(kind: type, array: np.ndarray, requires_grad: bool) -> torch.Tensor:
    tensor = torch.from_numpy(array).clone()  # into memory that is aligned as PyTorch's own
    if kind is torch.nn.Parameter:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_(requires_grad)


def send_request(connection: socket.socket, request: bytes, deadline: float) -> None:
    """Sends a pickled request to a worker.

    Raises:
        TimeoutError: the deadline (on time.monotonic's clock) passed.
        EOFError: the worker is gone.
    """
    connection.settimeout(max(0.001, deadline - time.monotonic()))
    try:
        connection.sendall(HEADER.pack(len(request), 0, 0) + request)
    except (BrokenPipeError, ConnectionError) as error:
        raise EOFError from error


def receive_request(connection: socket.socket) -> bytes:
    """Receives a pickled request, however long it takes.

    Raises:
        EOFError: the tester is gone.
    """
    size, _, _ = HEADER.unpack(_receive(connection, HEADER.size, None))
    return _receive(connection, size, None)


def _receive(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    received = bytearray(size)
    view = memoryview(received)
    while view:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
        try:
            count = connection.recv_into(view)
        except ConnectionError as error:
            raise EOFError from error
        if not count:
            raise EOFError
        view = view[count:]
    return bytes(received)
