"""Where files lie: a disk or a bucket, both through fsspec; what goes wrong there as one line."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weights import Refused

CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or log in with gcloud",
}
DRIVERS = {"s3": "pip install 'caffeport[s3]'", "gs": "pip install gcsfs", "gcs": "pip install gcsfs"}
KEPT_BYTES = 16 * 2**30
"""How much of what is fetched stays on the disk for later epochs; the rest is fetched again."""


class Unreachable(Refused):
    """The storage, not one file in it, is at fault: no other file is worth trying."""


@dataclass(frozen=True)
class Storage:
    """A file system of fsspec's. ``scheme`` is "" for the disk, else what stands before "://"."""

    scheme: str
    filesystem: Any = field(repr=False)

    @property
    def is_remote(self) -> bool:
        """Whether files are fetched over a network."""
        return bool(self.scheme)

    def spelled(self, path: str) -> str:
        """Returns ``path`` as a user writes it."""
        return f"{self.scheme}://{path}" if self.scheme else path

    def read(self, path: str) -> bytes:
        """Returns a file's bytes. Raises Refused where there is none, Unreachable where the storage is at fault."""
        with self._refusing(path):
            return self.filesystem.cat_file(path)

    def fetch(self, path: str, target: Path) -> None:
        """Copies a file to the disk. Raises as ``read`` does."""
        with self._refusing(path):
            self.filesystem.get_file(path, str(target))

    def is_folder(self, path: str) -> bool:
        """Returns whether ``path`` is a folder. Raises Refused where there is nothing."""
        with self._refusing(path):
            return self.filesystem.info(path)["type"] == "directory"

    def entries(self, path: str) -> dict[str, bool]:
        """Returns what lies in a folder: path -> whether it is a folder. Raises Refused where there is none."""
        with self._refusing(path):
            found = self.filesystem.ls(path, detail=True, refresh=True)
        return {
            one["name"].rstrip("/"): one["type"] == "directory"
            for one in found
            if one["name"].rstrip("/") != path.rstrip("/")  # a bucket's folder lists itself
        }

    @contextmanager
    def _refusing(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise Refused(f"no such file{', folder or bucket' if self.is_remote else ' or folder'}") from error
        except Exception as error:  # botocore's, aiohttp's and each driver's own
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> Refused:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        if not self.is_remote:
            return Refused(reason)
        if "Credential" in type(error).__name__:
            way = CREDENTIALS.get(self.scheme, f"give those of {self.scheme}")
            found = "no credentials were found" if "No" in type(error).__name__ else f"credentials are wrong ({reason})"
            return Unreachable(f"{found}; {way}")
        if isinstance(error, PermissionError):
            return Unreachable(f"access is denied ({reason})")
        return Unreachable(f"could not be read: {reason}")


def locate(place: str) -> tuple[Storage, str]:
    """Returns the storage that ``place`` (a path, or s3://..., gs://...) lies in, and its path there.

    Raises Refused where the driver for it is not installed, or there is none.
    """
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise Refused("reading training pictures needs fsspec: pip install 'caffeport[finetune]'") from error
    scheme = place.partition("://")[0] if "://" in place else ""
    if scheme == "file":
        scheme = ""
    try:
        filesystem, path = url_to_fs(place)
    except ImportError as error:
        way = DRIVERS.get(scheme, f"install the driver that fsspec names for {scheme}")
        raise Refused(f"{place}: {scheme}:// needs a package that is not installed: {way}") from error
    except ValueError as error:
        raise Refused(f"{place}: is neither a path nor a kind of storage that fsspec knows: {error}") from error
    return Storage(scheme, filesystem), path


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Returns a folder that lasts as long as the object."""
    return tempfile.TemporaryDirectory(prefix="caffeport-", ignore_cleanup_errors=True)


class Kept:
    """Files that were fetched, on the disk for as long as this object lives: at most ``limit`` bytes."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()
        self._left = limit

    def read(self, storage: Storage, path: str, number: int) -> bytes:
        """Returns the bytes of file ``number``, fetched where it is not kept. Raises as ``Storage.read`` does."""
        with self._lock:
            self._folder = self._folder or temporary_folder()
        place = Path(self._folder.name, str(number))
        if place.exists():
            return place.read_bytes()
        data = storage.read(path)
        with self._lock:
            fits = len(data) <= self._left
            self._left -= len(data) if fits else 0
        if fits:
            part = place.with_suffix(f".{threading.get_ident()}")
            try:
                part.write_bytes(data)
                part.replace(place)
            except OSError:  # a full disk: it is fetched again
                part.unlink(missing_ok=True)
        return data
