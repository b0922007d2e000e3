"""Messages between the tester, which is trusted, and the worker, which runs a student's code.

Requests travel as pickles, from the trusted side only. Replies are data only: a JSON tree, and
beside it the arrays and tensors that the tree refers to, as safetensors. Nothing that a worker
sends is ever unpickled or executed, and whatever isn't plain data comes back as a handle.
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
MOST_BYTES = 256 * 2**20  # of one message's arrays
MOST_TREE_BYTES = 4 * 2**20
MOST_DEPTH = 32


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
            if isinstance(value, dict):
                pairs = value.items()
                return {"dict": [[self.encode(item, depth + 1) for item in pair] for pair in pairs]}
        self.kept.append(value)
        return {"handle": len(self.kept) - 1, "kind": type(value).__name__}


def _travels(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and not (tensor.is_complex() or tensor.is_meta)


def send_reply(connection: socket.socket, reply: dict, kept: list) -> None:
    """Sends a reply, a dict of values by name; what can't travel is appended to `kept`."""
    encoder = Encoder(kept)
    tree = json.dumps({key: encoder.encode(value) for key, value in reply.items()}).encode()
    arrays = safetensors.numpy.save(encoder.arrays)
    tensors = safetensors.torch.save(encoder.tensors)
    connection.sendall(HEADER.pack(len(tree), len(arrays), len(tensors)) + tree + arrays + tensors)


def receive_reply(connection: socket.socket, deadline: float) -> dict:
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
    try:
        reply = json.loads(tree)
        values = safetensors.numpy.load(arrays), safetensors.torch.load(tensors)
        return {key: _decode(value, *values) for key, value in reply.items()}
    except Exception as error:
        raise ChannelError("something that isn't a result") from error


def _decode(node: Any, arrays: dict, tensors: dict, depth: int = 0) -> Any:
    """A JSON tree's value, built from exact types only."""
    if node is None or type(node) in (bool, int, float, str):
        return node
    if depth > MOST_DEPTH:
        raise ChannelError("a result that is nested too deep")
    ((kind, content), *rest) = node.items()
    if kind == "array":
        return arrays[content].copy()
    if kind == "scalar":
        return arrays[content][()]
    if kind == "tensor":
        return tensors[content].clone()
    if kind == "handle":
        return Handle(int(content), str(dict(rest)["kind"]))
    if kind == "dict":
        return {
            _decode(key, arrays, tensors, depth + 1): _decode(item, arrays, tensors, depth + 1)
            for key, item in content
        }
    items = [_decode(item, arrays, tensors, depth + 1) for item in content]
    return {"list": items, "tuple": tuple(items)}[kind]


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
            connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            count = connection.recv_into(view)
        except ConnectionError as error:
            raise EOFError from error
        if not count:
            raise EOFError
        view = view[count:]
    return bytes(received)
