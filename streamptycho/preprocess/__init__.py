"""From raw counts to amplitudes, and from motor positions to object pixels."""

from streamptycho.preprocess.frames import FrameOptions, FramePreprocessor, Prepared
from streamptycho.preprocess.positions import PositionOptions, PositionTransform

__all__ = ["FrameOptions", "FramePreprocessor", "PositionOptions", "PositionTransform", "Prepared"]
