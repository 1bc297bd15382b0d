"""What the tests of preprocessing share."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.messages.geometry import Geometry
from streamptycho.messages.stream import ScanStart
from streamptycho.preprocess.frames import FramePreprocessor
from streamptycho.preprocess.options import FrameOptions


def start(shape: tuple[int, int] = (32, 32), dtype: str = "uint16", **fields: Any) -> ScanStart:
    pitch = fields.pop("pitch_m", (75e-6, 75e-6))
    geometry = Geometry(wavelength_m=1.4e-10, distance_m=2.0, pitch_m=pitch, frame_shape=shape)
    return ScanStart(scan_id="s", geometry=geometry, dtype=np.dtype(dtype), started_ns=0, **fields)


def preprocessor(scan_start: ScanStart | None = None, **options: Any) -> FramePreprocessor:
    return FramePreprocessor(FrameOptions(**options), scan_start or start())


def seen(amplitude: NDArray[np.float32]) -> NDArray[np.float32]:
    """Amplitudes as the detector shows them: zero frequency in the middle."""
    return np.fft.fftshift(amplitude)


def prepare(made: FramePreprocessor, raw: NDArray[np.generic], key: int = 0) -> NDArray[np.float32]:
    """The newest frame after adding `raw`, zero frequency in the middle."""
    return seen(made.add(key, raw)[-1].amplitude)


def blob(shape: tuple[int, int], center: tuple[float, float], width: float = 3.0, height: float = 1e4) -> NDArray[np.uint16]:
    """A bright spot on nothing."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    spot = height * np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / (2 * width**2))
    return np.rint(spot).astype(np.uint16)


def saved(path: Path, array: NDArray[np.generic]) -> Path:
    np.save(path, array)
    return path
