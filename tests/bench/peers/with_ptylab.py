"""ePIE of PtyLab on the bench's frames; see :mod:`tests.bench.peers.common` for what comes in and goes out."""

import contextlib
import os

import common
import numpy as np


class Peer:
    """Frames centred, object of ones, the given probe; a pass visits every frame once."""

    def __init__(self, scan: common.Scan) -> None:
        from PtyLab.Engines import ePIE
        from PtyLab.ExperimentalData.ExperimentalData import ExperimentalData
        from PtyLab.Monitor.Monitor import DummyMonitor
        from PtyLab.Params.Params import Params
        from PtyLab.Reconstruction.Reconstruction import Reconstruction

        data = ExperimentalData()
        data.ptychogram = scan.frames
        data.wavelength, data.zo, data.dxd = 1e-10, 1.0, 75e-6
        pixel = data.wavelength * data.zo / (scan.side * data.dxd)
        centres = scan.corners - (scan.corners.max(0) + scan.corners.min(0)) // 2
        data.encoder = centres * pixel
        data.entrancePupilDiameter, data.spectralDensity, data.theta, data.emptyBeam = (
            scan.side * pixel / 3,
            None,
            None,
            None,
        )
        data._setData()
        params = Params()
        params.positionOrder = "random"
        params.propagatorType = "Fraunhofer"
        params.gpuSwitch = False
        self.state = Reconstruction(data, params)
        self.state.npsm = len(scan.probe)
        self.state.initializeObjectProbe()
        self.state.probe = scan.probe[None, None, :, None].astype(np.complex64)
        self.engine = ePIE(self.state, data, params, DummyMonitor())
        self.engine.betaObject, self.engine.betaProbe = 1.0, 0.1
        self.offset = scan.corners[0] - self.state.positions[0]

    def run(self, passes: int) -> None:
        """So many passes; what the program prints is not wanted."""
        self.engine.numIterations = passes
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
            self.engine.reconstruct()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Object, and the coordinate of its first pixel."""
        return np.asarray(self.state.object).reshape(self.state.object.shape[-2:]), self.offset


if __name__ == "__main__":
    common.main(Peer)
