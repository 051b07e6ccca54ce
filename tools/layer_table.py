"""Prints the README's table of layers from the registry.

python -m tools.layer_table              print it
python -m tools.layer_table README.md    put it where the README has it
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from converter.data_layers import DATA_LAYERS
from graphs import LAYERS

BEGIN, END = "<!-- layers -->", "<!-- /layers -->"

# The types that BVLC Caffe registers, in its last version (February 2020).
BVLC = (
    *("AbsVal", "Accuracy", "ArgMax", "BatchNorm", "BatchReindex", "Bias", "BNLL", "Clip", "Concat"),
    *("ContrastiveLoss", "Convolution", "Crop", "Data", "Deconvolution", "Dropout", "DummyData", "Eltwise", "ELU"),
    *("Embed", "EuclideanLoss", "Exp", "Filter", "Flatten", "HDF5Data", "HDF5Output", "HingeLoss", "Im2col"),
    *("ImageData", "InfogainLoss", "InnerProduct", "Input", "Log", "LRN", "LSTM", "LSTMUnit", "MemoryData"),
    *("MultinomialLogisticLoss", "MVN", "Parameter", "Pooling", "Power", "PReLU", "Python", "Reduction", "ReLU"),
    *("Reshape", "RNN", "Scale", "Sigmoid", "SigmoidCrossEntropyLoss", "Silence", "Slice", "Softmax"),
    *("SoftmaxWithLoss", "Split", "SPP", "Swish", "TanH", "Threshold", "Tile", "WindowData"),
)
ELSEWHERE = {
    "HDF5Output": ("refused", "writes files; take it out of the definition"),
    "LSTMUnit": ("refused", "a part of LSTM that definitions do not name"),
    "Python": ("refused", "unless you register a definition for its type, see below"),
}


def table() -> str:
    """Returns the table as Markdown: BVLC Caffe's types, then those of forks."""
    rows = ["| layer | state | what is honoured |", "|---|---|---|"]
    rows += [_row(name) for name in BVLC]
    rows += [_row(name, "fork") for name in sorted(set(LAYERS) - set(BVLC), key=str.lower)]
    return "\n".join(rows)


def _row(name: str, origin: str = "") -> str:
    if name in LAYERS:
        state, note = "yes", LAYERS[name].note
    elif name in DATA_LAYERS:
        state, note = "as input", "becomes placeholders"
    else:
        state, note = ELSEWHERE.get(name, ("no", ""))
    return f"| {name}{f' ({origin})' if origin else ''} | {state} | {note} |"


def with_table(text: str) -> str:
    """Returns a Markdown text with the table between its two marks, ``<!-- layers -->`` and ``<!-- /layers -->``."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table, or puts it into the file that is named; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.layer_table", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, metavar="README.md", help="file to put the table into")
    file = parser.parse_args(argv).file
    if file is None:
        print(table())
    else:
        file.write_text(with_table(file.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
