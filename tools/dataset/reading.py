"""From what a user names to labelled pictures."""

from __future__ import annotations

from collections.abc import Sequence

from tools.dataset.arrays import is_pair, read_pair
from tools.dataset.examples import Examples
from tools.dataset.files import read_folder, read_list
from tools.dataset.storage import locate
from weights import Refused


def read_examples(place: str, classes: Sequence[str] | None = None, root: str = "") -> Examples:
    """Returns the labelled pictures at ``place``, a path or an address (s3://..., gs://...):

    a text list, a line for each picture: its path, from ``root`` or else the list's folder, and its label;
    a folder that has a folder of pictures for each class, or holds ``x.npy`` and ``y.npy``;
    a pair of arrays: ``x.npy`` with ``y.npy`` beside it, or ``pictures.npy,labels.npy``.

    ``classes`` are the names that labels must fit, those of the training set; else they are what is found. No picture
    is read. Raises Refused where there is nothing, or it is none of these.
    """
    if is_pair(place):
        return read_pair(place, classes)
    storage, path = locate(place)
    try:
        is_folder = storage.is_folder(path)
        inside = set(storage.entries(path)) if is_folder else set()
    except Refused as refused:
        raise type(refused)(*refused.within(place).reasons) from refused
    if not is_folder:
        return read_list(place, root, classes)
    arrays = [f"{path.rstrip('/')}/{name}.npy" for name in "xy"]
    if inside.issuperset(arrays):
        return read_pair(f"{place.rstrip('/')}/x.npy", classes)
    return read_folder(place, classes)
