"""Pictures to train on: read from lists, folders or arrays, here or in a bucket, prepared as Caffe prepares them."""

from tools.dataset.arrays import Rows, arrays_of
from tools.dataset.examples import Examples, split
from tools.dataset.faults import Faults, checked
from tools.dataset.files import Files
from tools.dataset.pipeline import batches
from tools.dataset.preparation import Preparation, order_notes, prepare
from tools.dataset.reading import read_examples

__all__ = [
    "Examples",
    "Faults",
    "Files",
    "Preparation",
    "Rows",
    "arrays_of",
    "batches",
    "checked",
    "order_notes",
    "prepare",
    "read_examples",
    "split",
]
