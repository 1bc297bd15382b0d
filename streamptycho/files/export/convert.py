"""One file into another of another kind; the kind is that of the new name."""

from pathlib import Path

from streamptycho.display.logbook import logbook
from streamptycho.errors import ConfigError, ScanError
from streamptycho.files.export.aps import write_aps
from streamptycho.files.export.flat import tiff_paths, write_npz, write_tiffs
from streamptycho.files.export.material import Material, material
from streamptycho.files.export.plain import write_plain
from streamptycho.files.export.product import write_product
from streamptycho.files.export.strict import write_strict
from streamptycho.files.options import ReadOptions

KINDS = {
    ".strict.cxi": "strict CXI 1.6, with a link to the frames",
    ".cxi": "our layout, frames readable without a plugin",
    ".product.h5": "a product of ptychodus",
    ".h5": "APS HDF5",
    ".npz": "NumPy archive",
    ".tif": "TIFF, phase and amplitude",
    ".tiff": "TIFF, phase and amplitude",
    ".png": "a picture for the logbook",
}
"""How names end, longer endings first, and what is written then."""


def convert(source: Path, target: Path, options: ReadOptions | None = None) -> list[Path]:
    """Write what is in `source`, a scan or a result, as `target`; what was written.

    Raises ConfigError for a name of no kind or one that exists, FormatError where `source` cannot be read or lacks what that
    kind needs, ScanError if the disk refuses.
    """
    source, target = Path(source), Path(target)
    kind = next((ending for ending in KINDS if target.name.lower().endswith(ending)), None)
    if kind is None:
        kinds = ", ".join(f"{ending} ({what})" for ending, what in KINDS.items())
        raise ConfigError(f"{target}: which kind of file is meant? End its name with one of {kinds}")
    written = list(tiff_paths(target)) if kind in (".tif", ".tiff") else [target]
    taken = [path for path in written if path.exists()]
    if taken:
        raise ConfigError(f"{taken[0]}: exists and is not overwritten; choose another name")
    with material(source, options) as there:
        _write(kind, target, there)
    return written


def _write(kind: str, target: Path, there: Material) -> None:
    match kind:
        case ".strict.cxi":
            write_strict(target, there)
        case ".cxi":
            write_plain(target, there)
        case ".product.h5":
            write_product(target, there)
        case ".h5":
            write_aps(target, there)
        case ".npz":
            write_npz(target, there)
        case ".png":
            _write_png(target, there)
        case _:
            write_tiffs(target, there)


def _write_png(target: Path, there: Material) -> None:
    result = there.need_result
    picture = logbook(result.snapshot(there.title), result.report.assessment)
    try:
        picture.save(target)
    except OSError as error:
        raise ScanError(f"{target}: the picture cannot be written ({error}); write elsewhere") from error
