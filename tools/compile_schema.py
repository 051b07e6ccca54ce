"""Generates converter/caffe_pb2.py from converter/caffe.proto.

    python -m tools.compile_schema

Needs a protobuf compiler of the 3.21 line (`pip install grpcio-tools==1.49.1`): what it generates runs on every
protobuf runtime from 4.21 on, and so beside every supported TensorFlow; newer compilers shut older runtimes out.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Returns the compiler's exit code."""
    command = [sys.executable, "-m", "grpc_tools.protoc", "--proto_path=.", "--python_out=."]
    return subprocess.call([*command, "converter/caffe.proto"], cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
