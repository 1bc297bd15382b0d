"""For a notebook or a script: open a scan, reconstruct it, look at the picture, save it.

::

    import streamptycho as sp

    scan = sp.open_scan("scan.cxi")
    result = sp.reconstruct(scan, passes=20)
    result.show()
    result.save("result.h5")

Frames are NumPy arrays as the detector delivers them; masking, centring, cropping and shifting are done here. Lengths are in
metres, axes are (y, x), masks are True where valid. Settings are keywords: a key of ``[engine]`` by its name (``modes=2``),
any other table of the configuration file as a mapping (``preprocess={"orientation": "flip-x"}``).
"""

import time
from os import PathLike
from pathlib import Path
from typing import Any

from streamptycho.config import Config
from streamptycho.files import scan as recorded
from streamptycho.interactive.live import Live
from streamptycho.interactive.progress import Progress, Report
from streamptycho.interactive.result import Result
from streamptycho.interactive.scan import Scan, scan_from_arrays
from streamptycho.interactive.settings import configured

__all__ = ["Live", "Progress", "Result", "Scan", "open_scan", "reconstruct", "scan_from_arrays"]


def open_scan(path: str | PathLike[str], *, config: Config | str | PathLike[str] | None = None, **read: Any) -> Scan:
    """Open a recorded scan; what was understood of it is shown by its representation.

    Parameters
    ----------
    config : a file, or a configuration as loaded.
    read : keys of ``[read]``, for what the file does not say or says wrongly: ``energy_ev=8800``, ``position_unit="um"``.

    Raises FormatError if anything needed is missing or contradicts itself; the message names the key that settles it.
    """
    file = recorded.open_scan(Path(path), configured(config, {"read": read}).read)
    return Scan(
        start=file.start(file.scan_id, time.time_ns()),
        index=file.index,
        yx_m=file.yx_m,
        source=file,
        understood=file.understood,
        report=file.report,
    )


def reconstruct(
    scan: Scan,
    *,
    passes: int | None = None,
    seconds: float | None = None,
    progress: bool | Report = True,
    config: Config | str | PathLike[str] | None = None,
    **settings: Any,
) -> Result:
    """Reconstruct a scan with the engine of the services.

    Parameters
    ----------
    passes, seconds, progress : as in :meth:`Live.finish`, which also says what Ctrl-C does.
    config, settings : as in :class:`Live`; ``probe`` may be an array.

    Raises ConfigError for settings that do not exist or do not fit, ScanError where no picture came about.
    """
    live = Live(scan, config=config, **settings)
    live.finish(passes=passes, seconds=seconds, progress=progress)
    return live.result()
