"""What is done about each error, and what an error says."""

import inspect

import pytest

from streamptycho import errors
from streamptycho.errors import (
    BackendError,
    CodecError,
    ConfigError,
    Disposition,
    FormatError,
    GrammarError,
    ProtocolError,
    ScanError,
    StreamPtychoError,
    disposition,
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProtocolError("frame.index", "x"), Disposition.DROP),
        (CodecError("frame.index", "x"), Disposition.DROP),
        (GrammarError("frame.index", "x"), Disposition.DROP),
        (ScanError("disk full"), Disposition.ABORT_SCAN),
        (ConfigError("x"), Disposition.EXIT),
        (FormatError("x"), Disposition.EXIT),
        (BackendError("x"), Disposition.EXIT),
        (StreamPtychoError("x"), Disposition.EXIT),
        (ValueError("a bug"), Disposition.EXIT),
        (KeyError("a bug"), Disposition.EXIT),
        (MemoryError(), Disposition.EXIT),
        (KeyboardInterrupt(), Disposition.EXIT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value.name,
)
def test_disposition(error: BaseException, expected: Disposition):
    assert disposition(error) is expected


def test_every_error_is_in_the_tree():
    found = [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, BaseException)]
    assert len(found) == 8
    assert all(issubclass(item, StreamPtychoError) for item in found)


@pytest.mark.parametrize("kind", [ProtocolError, CodecError, GrammarError])
def test_protocol_error_names_field_and_loss(kind: type[ProtocolError]):
    error = kind("frame.index", "-1 is negative", scan_id="s1", frames=3)
    assert str(error) == "frame.index: -1 is negative"
    assert (error.field, error.detail, error.scan_id, error.frames) == ("frame.index", "-1 is negative", "s1", 3)


def test_protocol_error_knows_no_scan_unless_told():
    error = CodecError("header", "not msgpack")
    assert error.scan_id is None
    assert error.frames == 0
