"""Pickles of integer arrays, read without executing anything in them.

The CIFAR data sets come as pickles. The unpickler here knows plain containers and arrays of integers, and refuses every
other global, so numpy itself never sees what a file says of an array's type.
"""

import io
import pickle
import re
import struct
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np


class PickledDtype:
    """Stand-in of a numpy dtype in a pickle: integers alone, of whose state the byte order counts and nothing else."""

    def __init__(self, name: Any, *_: Any) -> None:
        text = name.decode("latin1") if isinstance(name, bytes) else name if type(name) is str else "?"
        if not re.fullmatch(r"[|<>=]?[iu][1248]", text):
            raise pickle.UnpicklingError(f"its arrays hold '{text[:20]}', no integers")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Sequence[Any]) -> None:
        if state[1] in ("<", ">", b"<", b">"):
            order = state[1] if isinstance(state[1], str) else state[1].decode()
            self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


class PickledArray:
    """Stand-in of a numpy array in a pickle, with its shape, type and bytes and nothing else.

    Attributes:
        value: The array.
    """

    def __init__(self, *_: Any) -> None:
        self.value = np.zeros(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        self.value = _integers(content, kind, shape, "F" if fortran is True else "C")


def _integers(content: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    """Return an array of these bytes, which a file gives and so may be of any type."""
    if not isinstance(kind, PickledDtype) or not isinstance(content, bytes | bytearray | str):
        raise pickle.UnpicklingError("it holds an array whose bytes are missing")
    if isinstance(content, str):  # as Python 2 wrote them
        content = content.encode("latin1")
    if not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
        raise pickle.UnpicklingError("it holds an array without a shape")
    return np.frombuffer(content, kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> PickledArray:
    array = PickledArray()
    array.value = _integers(content, kind, shape, "F" if order in ("F", b"F") else "C")
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    """Encode bytes that Python 3 wrote in the protocol of Python 2; no other encoding: some grow without end."""
    if type(text) is not str or encoding != "latin1":
        raise pickle.UnpicklingError("it asks for an encoding that arrays do not need")
    return text.encode("latin1")


PythonUnpickler: Any = pickle._Unpickler


class ArrayUnpickler(PythonUnpickler):
    """Unpickler of plain containers and arrays of integers.

    It extends the unpickler that is written in Python, whose steps can be checked one by one. Everything is refused
    that needs memory or time beyond the size of the file: memo tables with gaps, nested keys, announced buffers.

    Args:
        content: The pickle.

    Raises:
        UnpicklingError: In `load`, where the pickle holds anything else.
    """

    KNOWN = MappingProxyType(
        {
            ("numpy.core.multiarray", "_reconstruct"): PickledArray,
            ("numpy.core.numeric", "_frombuffer"): _from_buffer,
            ("numpy", "ndarray"): PickledArray,
            ("numpy", "dtype"): PickledDtype,
            ("_codecs", "encode"): _encode,
        }
    )
    REFUSED = (
        *(pickle.PERSID, pickle.BINPERSID, pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),
        *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER),
        *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),
    )

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.size = len(content)

    def find_class(self, module: str, name: str) -> Any:
        """Look up one of `KNOWN`, under the names of numpy 1 or 2."""
        found = self.KNOWN.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return found

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it uses what arrays and lists do not need")

    def _check_keys(self, keys: Sequence[Any]) -> None:
        if not all(type(key) in (str, bytes, int) for key in keys):
            raise pickle.UnpicklingError("it has a key that is no text and no number")

    def _setitem(self) -> None:
        self._check_keys(self.stack[-2:-1])
        PythonUnpickler.load_setitem(self)

    def _setitems(self) -> None:
        self._check_keys(self.stack[::2])
        PythonUnpickler.load_setitems(self)

    def _dictionary(self) -> None:
        self._check_keys(self.stack[::2])
        PythonUnpickler.load_dict(self)

    def _bytearray8(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        if length > self.size:
            raise pickle.UnpicklingError("it is truncated")
        self.append(bytearray(self.read(length)))

    def _reduce(self) -> None:
        if not any(self.stack[-2] is known for known in self.KNOWN.values()):
            self._refuse()
        PythonUnpickler.load_reduce(self)

    def _build(self) -> None:
        if type(self.stack[-2]) not in (PickledDtype, PickledArray):
            self._refuse()
        PythonUnpickler.load_build(self)


ArrayUnpickler.dispatch = {
    **PythonUnpickler.dispatch,
    **dict.fromkeys((code[0] for code in ArrayUnpickler.REFUSED), ArrayUnpickler._refuse),
    pickle.SETITEM[0]: ArrayUnpickler._setitem,
    pickle.SETITEMS[0]: ArrayUnpickler._setitems,
    pickle.DICT[0]: ArrayUnpickler._dictionary,
    pickle.BYTEARRAY8[0]: ArrayUnpickler._bytearray8,
    pickle.REDUCE[0]: ArrayUnpickler._reduce,
    pickle.BUILD[0]: ArrayUnpickler._build,
}


def array_of(value: Any) -> np.ndarray:
    """Convert a value of an `ArrayUnpickler` to an array.

    Args:
        value: An array, or a list of whole numbers.

    Returns:
        The array; int64 of a list.

    Raises:
        ValueError: It is anything else.
    """
    if isinstance(value, PickledArray):
        return value.value
    if type(value) is not list or not all(type(number) is int for number in value):
        raise ValueError(f"{type(value).__name__} where an array or a list of whole numbers should be")
    return np.array(value, np.int64)
