"""Pickles that hold data and nothing else, read without running anything."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from weights.refused import Refused

# Opcodes of pickles that hold arrays, dicts, lists, tuples, strings and numbers: nothing that calls, but for the
# names that the caller has stand-ins for.
_OPCODES = {
    *("PROTO", "STOP", "FRAME", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE"),
    *("TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    *("GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}

Names = Mapping[tuple[str, str], Any]
"""(module, name) -> what stands in for it."""


def load_pickle(data: memoryview, names: Names, persistent: Callable[[Any], Any] | None = None) -> Any:
    """Returns what the pickle at the beginning of ``data`` holds. See ``load_first``."""
    return load_first(data, names, persistent)[0]


def load_first(data: memoryview, names: Names, persistent: Callable[[Any], Any] | None = None) -> tuple[Any, int]:
    """Returns what the pickle at the beginning of ``data`` holds, and how many bytes it takes.

    Runs no code: it may make dicts, lists, tuples, strings, numbers, and what ``names`` has, and nothing else.
    ``persistent`` returns what stands for an object that the file keeps beside the pickle; without it there may be
    none. Raises Refused where the pickle would do more or is broken.
    """
    allowed = _OPCODES if persistent is None else _OPCODES | {"BINPERSID"}
    try:
        file = io.BufferedReader(_File(data))
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name not in allowed:
                raise Refused(f"its pickle uses {opcode.name}; only arrays, dicts, lists and strings are read")
            if opcode.name in _PUTS and int(argument or 0) > len(data):
                raise Refused("its pickle numbers its objects beyond its own length")
        return _Unpickler(io.BufferedReader(_File(data)), names, persistent).load(), file.tell()
    except Refused:
        raise
    except Exception as error:  # a broken pickle can raise anything
        raise Refused(f"its pickle is broken: {' '.join(str(error).split())[:200]}") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BufferedReader, names: Names, persistent: Callable[[Any], Any] | None) -> None:
        super().__init__(file, encoding="latin1")
        self.names, self.persistent = names, persistent

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            raise Refused(f"its pickle asks for {module}.{name}; only arrays, dicts, lists and strings are read")
        return self.names[module, name]

    def persistent_load(self, identity: Any) -> Any:
        if self.persistent is None:
            raise Refused("its pickle refers to objects outside of it")
        return self.persistent(identity)


class _File(io.RawIOBase):
    """Bytes as a file that copies none until they are read."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.position = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: len(self.data)}[whence]
        return self.position

    def readinto(self, into: Any) -> int:
        piece = self.data[self.position : self.position + len(into)]
        into[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)
