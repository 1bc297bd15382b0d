"""ePIE of phaser (NumPy backend) on the bench's frames; see :mod:`tests.bench.peers.common`."""

import common
import numpy as np

PIXEL = 1.0
"""Length of an object pixel; only ratios matter."""


class Peer:
    """Object of ones, the given probe, one frame at a time."""

    def __init__(self, scan: common.Scan) -> None:
        from phaser.engines.conventional.run import run_engine
        from phaser.plan import ConventionalEnginePlan
        from phaser.state import IterState, Patterns, PixelatedObjectState, PixelatedProbeState, ReconsState, ScanState
        from phaser.utils.num import Sampling
        from phaser.utils.object import ObjectSampling

        self._engine, self._plan = run_engine, ConventionalEnginePlan
        n = scan.side
        centres = ((scan.corners + n // 2 - scan.corners.min(0)) * PIXEL).astype(np.float32)
        self.first = scan.corners.min(0) - 16
        shape = np.ptp(scan.corners, 0) + n + 32
        corner = np.array([-16.0, -16.0]) * PIXEL
        frames = np.fft.ifftshift(scan.frames, axes=(1, 2))
        self.patterns = Patterns(frames, np.ones((n, n), np.float32))
        self.state = ReconsState(
            iter=IterState.empty(),
            wavelength=0.01,
            probe=PixelatedProbeState(Sampling((n, n), sampling=(PIXEL, PIXEL)), scan.probe.astype(np.complex64)),
            object=PixelatedObjectState(
                ObjectSampling((int(shape[0]), int(shape[1])), (PIXEL, PIXEL), corner),
                np.ones((1, *shape), np.complex64),
                np.zeros(0, np.float32),
            ),
            scan=ScanState(centres, centres.copy()),
        )

    def run(self, passes: int) -> None:
        """So many passes."""
        from phaser.observer import Observer

        plan = self._plan.from_data(
            {
                "noise_model": {"type": "amplitude", "gaussian_variance": 0.0, "eps": 1e-6},
                "solver": {"type": "epie", "beta_object": 1.0, "beta_probe": 0.1},
                "group_constraints": [],
                "iter_constraints": [],
                "niter": passes,
                "grouping": 1,
                "bwlim_frac": None,
                "buffer_n_groups": None,
                "calc_error": False,
            }
        )
        self.state = self._engine(
            {
                "data": self.patterns,
                "state": self.state,
                "dtype": np.float32,
                "xp": np,
                "recons_name": "bench",
                "observer": Observer(),
                "seed": 0,
            },
            plan,
        )

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Object, and the coordinate of its first pixel."""
        return np.asarray(self.state.object.data)[0], self.first


if __name__ == "__main__":
    common.main(Peer)
