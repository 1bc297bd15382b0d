"""The tree of errors, and what is done about each.

::

    StreamPtychoError
    ├── ConfigError      ours, before anything starts          exit code 2, no traceback
    ├── ProtocolError    theirs: a peer broke the contract
    │   ├── CodecError   bytes that are not a message          drop it, count it, go on
    │   └── GrammarError a message that does not fit the scan  drop it, count it, go on
    ├── InputError       a caller's arrays cannot be right        raised to the caller; also a ValueError
    ├── LinkError        the other end serves us nothing   finish in order, exit code 2, no traceback
    │   └── ReplacedError another has taken our place      finish in order, exit code 5, not to be started again
    ├── FormatError      a file that cannot be understood      exit code 2, no traceback
    ├── ScanError        this scan cannot go on (disk full)    end this scan, wait for the next
    ├── MemoryBoundError a method needs more than it may have  use another one, and say so
    └── BackendError     the compute device cannot be used     exit code 1, no traceback
        └── DeviceError  it has failed while computing         the process ends and is started again, with one line

Every error names the field, the value found and the remedy. Anything outside the tree is a bug: it stops the process.
"""

BEGAN_BEFORE = "began_before"
"""Reason of errors about messages that are well formed, of a run that began before anybody listened."""


class StreamPtychoError(Exception):
    """Root of all errors that streamptycho raises on purpose."""


class ConfigError(StreamPtychoError):
    """The configuration cannot be used as written."""


class ProtocolError(StreamPtychoError):
    """A peer sent something that breaks the wire contract.

    Parameters
    ----------
    field : name of the offending field, e.g. ``"frame.index"``.
    detail : what was found and what would be right.
    scan_id, frames : where the header could be read, the scan and the number of frames that are lost with the message,
        so that they are counted where they belong.
    reason : word under which it is counted, where it is not one that cannot be decoded.
    """

    def __init__(self, field: str, detail: str, *, scan_id: str | None = None, frames: int = 0, reason: str = "") -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail
        self.scan_id = scan_id
        self.frames = frames
        self.reason = reason


class CodecError(ProtocolError):
    """Bytes that cannot be decoded into a message."""


class GrammarError(ProtocolError):
    """A well-formed message that does not fit the scan it claims to belong to."""


class InputError(StreamPtychoError, ValueError):
    """Arrays or numbers handed to :mod:`streamptycho.api` that cannot be what they are said to be."""


class LinkError(StreamPtychoError):
    """The other end of a link sends this service nothing: they do not fit together."""


class ReplacedError(LinkError):
    """A newer service has taken the place of this one, which must not take it back: the two would go on for ever."""


class FormatError(StreamPtychoError):
    """A file that cannot be understood without guessing."""


class MemoryBoundError(StreamPtychoError):
    """A method needs more memory than it was allowed; nothing has been allocated."""


class ScanError(StreamPtychoError):
    """The current scan cannot continue; the service can."""


class BackendError(StreamPtychoError):
    """The requested compute device is missing, or cannot be used on this machine: no driver, no CuPy.

    Raised when a backend is chosen, before anything is computed. Running out of device memory later is a ``MemoryError``.
    """


class DeviceError(BackendError):
    """The device has failed while it computed; what this process has on it is lost, a new process may go on."""
