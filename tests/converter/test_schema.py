"""The generated caffe_pb2.py says what caffe.proto says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

from converter import caffe_pb2

PROTO = Path(caffe_pb2.__file__).with_name("caffe.proto")
LABELS = {number: name.lower().removeprefix("label_") for name, number in FieldDescriptorProto.Label.items()}
TYPES = {number: name.lower().removeprefix("type_") for name, number in FieldDescriptorProto.Type.items()}


def generated() -> FileDescriptorProto:
    return FileDescriptorProto.FromString(caffe_pb2.DESCRIPTOR.serialized_pb)


def plain(default: str) -> str | float:
    """Returns a default with numbers as float32, which compilers spell to different lengths."""
    try:
        return float(np.float32(default))
    except ValueError:
        return default


def described(message, prefix: str = "") -> dict[str, tuple]:
    """Returns name -> what a descriptor says of every field and enumerated value below ``message``."""
    found = {}
    for field in getattr(message, "field", ()):
        type_name = field.type_name.rsplit(".", 1)[-1] or TYPES[field.type]
        default = plain(field.default_value) if field.HasField("default_value") else None
        found[f"{prefix}{field.name}"] = (LABELS[field.label], type_name, field.number, default)
    for enum in message.enum_type:
        for value in enum.value:
            found[f"{prefix}{enum.name}.{value.name}"] = (value.number,)
    for inner in getattr(message, "message_type", ()) or getattr(message, "nested_type", ()):
        found.update(described(inner, f"{prefix}{inner.name}."))
    return found


def written(text: str) -> dict[str, tuple]:
    """Returns the same of the text, read by a small parser that knows no more of protobuf than the file uses."""
    tokens = re.findall(r'"[^"]*"|[\w.+-]+|[{}=;\[\],]', re.sub(r"//.*", "", text))
    found, names, position = {}, [], 0
    while position < len(tokens):
        token = tokens[position]
        if token in ("message", "enum"):
            names.append(tokens[position + 1])
            position += 3
        elif token == "}":
            names.pop()
            position += 1
        elif token in ("optional", "required", "repeated"):
            end = tokens.index(";", position)
            label, type_name, name, _, number, *options = tokens[position:end]
            default = plain(options[options.index("default") + 2].strip('"')) if "default" in options else None
            found[".".join([*names, name])] = (label, type_name.rsplit(".", 1)[-1], int(number), default)
            position = end + 1
        elif names and tokens[position + 1] == "=":
            found[".".join([*names, token])] = (int(tokens[position + 2]),)
            position = tokens.index(";", position) + 1
        else:  # syntax, package, a lone semicolon
            position = tokens.index(";", position) + 1
    return found


def test_every_field_and_value_of_the_text_is_in_the_module_and_no_other():
    text, module = written(PROTO.read_text(encoding="utf-8")), described(generated())
    assert len(text) > 400
    assert set(text) == set(module)
    assert {name: said for name, said in text.items() if module[name] != said} == {}


def test_the_module_is_what_protobufs_compiler_makes_of_it(tmp_path):
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools, which has protobuf's compiler")
    out = tmp_path / "schema.bin"
    command = [sys.executable, "-m", "grpc_tools.protoc", "--proto_path=.", f"--descriptor_set_out={out}"]
    subprocess.run([*command, "converter/caffe.proto"], cwd=PROTO.parent.parent, check=True)
    (compiled,) = FileDescriptorSet.FromString(out.read_bytes()).file
    assert described(compiled) == described(generated())
