"""What the tests of the engine share: simulated scans as amplitudes and pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.assess.truth import Agreement, compare
from streamptycho.solve.devices.backend import Backend
from streamptycho.solve.engine import EngineState, RollingEngine
from streamptycho.solve.settings import EngineOptions
from streamptycho.solve.store import FrameStore
from streamptycho_sim.forward import DetectorOptions
from streamptycho_sim.illumination import IlluminationOptions, guess
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from streamptycho_sim.trajectory import Path, TrajectoryOptions


@dataclass(frozen=True)
class Scene:
    """Frames ready for the engine, and the truth."""

    scan: SimulatedScan
    amplitudes: NDArray[np.float32]
    """(k, n, n), zero frequency at [0, 0]."""
    yx_px: NDArray[np.int64]
    """(k, 2) object pixel under the centre of the probe."""

    @property
    def guess(self) -> NDArray[np.complex64]:
        options = self.scan.options
        return guess(options.illumination, options.shape, options.detector.photons)

    def add_to(self, engine: RollingEngine, rows: range | None = None) -> None:
        for i in rows or range(len(self.amplitudes)):
            assert engine.add(self.amplitudes[i], (float(self.yx_px[i, 0]), float(self.yx_px[i, 1]))) is not None

    def judge(self, engine: RollingEngine) -> Agreement:
        picture = engine.picture()
        assert picture is not None
        agreement = compare(picture.object, picture.covered, picture.origin_px, self.scan.obj, self.scan.support, (0, 0))
        assert agreement is not None
        return agreement


def scene(
    n: int = 48,
    frames: int = 120,
    path: Path = Path.SNAKE,
    modes: int = 1,
    overlap: float = 0.75,
    seed: int = 0,
    **detector: Any,
) -> Scene:
    options = SyntheticOptions(
        shape=n,
        frames=frames,
        seed=seed,
        illumination=IlluminationOptions(modes=modes),
        trajectory=TrajectoryOptions(path=path, overlap=overlap),
        detector=DetectorOptions(**({"dtype": "uint32", "photons": 1e5} | detector)),
    )
    scan = SimulatedScan(options)
    counts = np.array(list(scan.counts()))
    amplitudes = np.fft.ifftshift(np.sqrt(counts), axes=(1, 2)).astype(np.float32)
    return Scene(scan, amplitudes, scan.corners + n // 2)


def engine_for(made: Scene, backend: Backend, probe: NDArray[np.complex64] | None, **options: Any) -> RollingEngine:
    n = made.scan.options.shape
    return RollingEngine(EngineOptions(**options), backend, (n, n), probe)


def run(engine: RollingEngine, updates: int) -> None:
    """Refine until so many updates more have been done, those for a look at the probe included."""
    done = idle = 0
    while done < updates:
        some = engine.step_slice()
        idle = 0 if some else idle + 1  # a verdict on the probe is a step without updates
        assert idle < 5, f"nothing to do in state {engine.state}"
        done += some


def polish(engine: RollingEngine) -> None:
    """Finish, and refine to the end."""
    engine.finish()
    for _ in range(10**5):
        if engine.state is EngineState.DONE:
            return
        engine.step_slice()
    raise AssertionError("polishing does not end")


def stored(made: Scene, backend: Backend, rows: int | None = None) -> FrameStore:
    n = made.scan.options.shape
    store = FrameStore(backend, (n, n))
    for amplitude, corner in zip(made.amplitudes[:rows], made.scan.corners[:rows].tolist(), strict=True):
        store.append(amplitude, (corner[0], corner[1]))
    return store


def random_complex(rng: np.random.Generator, *shape: int) -> NDArray[np.complex64]:
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
