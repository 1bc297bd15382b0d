"""The tree of errors, and what an error says."""

import inspect

import pytest

from streamptycho import errors
from streamptycho.errors import (
    CodecError,
    GrammarError,
    ProtocolError,
    StreamPtychoError,
)


def test_every_error_is_in_the_tree():
    found = [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, BaseException)]
    assert len(found) == 13
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
