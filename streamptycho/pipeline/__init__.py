"""The three stages of the live pipeline: pure composition of the library, driven by messages and a clock.

A stage knows no socket. What it wants sent it yields as (port, message); ``streamptycho_services.runtime`` sends it.
"""

from streamptycho.pipeline.receive import ReceiveStage
from streamptycho.pipeline.reconstruct import ReconstructStage
from streamptycho.pipeline.stage import Output, Port, Stage
from streamptycho.pipeline.write import WriteStage

__all__ = ["Output", "Port", "ReceiveStage", "ReconstructStage", "Stage", "WriteStage"]
