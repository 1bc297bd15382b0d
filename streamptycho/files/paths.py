"""Paths of this project's own files, and small helpers to read datasets."""

from collections.abc import Iterable
from typing import Any

import h5py
import numpy as np

LIVE = "/entry_1/streamptycho"
"""Group that only this project's own files have."""
DETECTOR = "/entry_1/instrument_1/detector_1"
TRANSLATION = "/entry_1/sample_1/geometry_1/translation"
LIVE_KEY = "/entry_1/data_1/live_key"
"""1 where a row holds a frame, in own files."""


def is_own(file: h5py.File) -> bool:
    """True for a file of this project: what it says needs no guess."""
    return dataset_at(file, f"{LIVE}/counters/n_frames") is not None


def find(file: h5py.File, paths: Iterable[str]) -> Any | None:
    """First of the datasets that exists; links that lead nowhere count as absent."""
    return next((found for path in paths if (found := dataset_at(file, path)) is not None), None)


def dataset_at(file: h5py.File, path: str) -> Any | None:
    """The dataset of that path; None if there is none, or if its link leads nowhere."""
    try:
        item = file.get(path)
    except (OSError, RuntimeError):  # the file behind an external link cannot be read
        return None
    return item if isinstance(item, h5py.Dataset) else None


def text(value: Any) -> str:
    """Text of a string as h5py returns it: str, bytes, or an array of one of these."""
    item = np.asarray(value).reshape(-1)[0] if np.size(value) else ""
    return item.decode(errors="replace") if isinstance(item, bytes) else str(item)
