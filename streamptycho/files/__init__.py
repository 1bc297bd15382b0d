"""Files: recorded scans in, growing scans and results out. The only package that knows HDF5."""

from streamptycho.files.bslz4 import compress
from streamptycho.files.dialect import Dialect
from streamptycho.files.layout import DROP_REASONS
from streamptycho.files.naming import safe_stem, unique_path
from streamptycho.files.options import MaskMeaning, ReadOptions, WriterOptions
from streamptycho.files.result import Result, read_result, write_result
from streamptycho.files.rows import Appended
from streamptycho.files.scan import RecordedScan, open_scan
from streamptycho.files.writer import CxiWriter

__all__ = [
    "DROP_REASONS",
    "Appended",
    "CxiWriter",
    "Dialect",
    "MaskMeaning",
    "ReadOptions",
    "RecordedScan",
    "Result",
    "WriterOptions",
    "compress",
    "open_scan",
    "read_result",
    "safe_stem",
    "unique_path",
    "write_result",
]
