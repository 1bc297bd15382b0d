"""LSQ-ML of pty-chi, batches of 50, on the bench's frames; see :mod:`tests.bench.peers.common`."""

import logging
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import common
import numpy as np


def let_torchvision_import() -> Any:
    """Declare the operators torchvision annotates: its wheel is built for CUDA, and refuses a torch that has none of them.

    pty-chi uses a Gaussian blur of it and none of the operators.
    """
    import torch

    spec = find_spec("torchvision")
    if torch.cuda.is_available() or spec is None or spec.origin is None:
        return None
    source = (Path(spec.origin).parent / "_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "DEF")
    for name in sorted(set(re.findall(r"torchvision::(\w+)", source) + re.findall(r'register_meta\("(\w+)"', source))):
        library.define(f"{name}(Tensor x) -> Tensor")
    return library


class Peer:
    """Object of ones, the given probe."""

    def __init__(self, scan: common.Scan) -> None:
        import torch

        torch.set_num_threads(1)
        self._library = let_torchvision_import()
        from ptychi import api
        from ptychi.api.task import PtychographyTask

        logging.disable(logging.WARNING)
        options = api.LSQMLOptions()
        options.data_options.data = scan.frames
        options.data_options.wavelength_m = 1e-10
        middle = scan.corners.astype(np.float64) + scan.side / 2
        middle -= (middle.max(0) + middle.min(0)) / 2
        self.middle = scan.corners[0] + scan.side / 2 - middle[0]
        extent = np.ptp(scan.corners, 0) + scan.side + 20
        options.object_options.initial_guess = np.ones((1, *extent), np.complex64)
        options.object_options.pixel_size_m = 1e-8
        options.object_options.optimizable = True
        options.probe_options.initial_guess = scan.probe[None].astype(np.complex64)
        options.probe_options.optimizable = True
        options.probe_position_options.position_y_px = middle[:, 0]
        options.probe_position_options.position_x_px = middle[:, 1]
        options.probe_position_options.optimizable = False
        options.reconstructor_options.default_device = api.Devices.CPU
        options.reconstructor_options.batch_size = 50
        options.reconstructor_options.num_epochs = 1
        self.task = PtychographyTask(options)

    def run(self, passes: int) -> None:
        """So many passes."""
        self.task.run(passes)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Object, and the coordinate of its first pixel."""
        obj = self.task.get_data_to_cpu("object", as_numpy=True)[0]
        return obj, np.round(self.middle - np.array(obj.shape) / 2).astype(int)


if __name__ == "__main__":
    common.main(Peer)
