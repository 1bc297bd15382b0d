"""docs/how-to: settings load, messages are those of the code, the sender of ``your-own-daq.md`` is understood."""

import ast
import dataclasses
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from streamptycho.config import load
from streamptycho.dialects.door import Interpreter
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, ScanEnd, ScanStart
from streamptycho.wire.codec import decode
from streamptycho_sim.formats.table_text import TableJson
from streamptycho_sim.stream import Item
from tests import scans
from tests.how_to import FOLDER, settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = [FOLDER / f"{name}.md" for name in ("connect-eiger", "connect-panda", "bluesky", "your-own-daq")]
LEAST = 6
"""Characters of a piece of a message from which it is looked for."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_settings_load(page: Path, tmp_path: Path):
    blocks = list(settings(page.stem))
    assert blocks
    for text in blocks:
        (tmp_path / "beamline.toml").write_text(text, encoding="utf-8")
        config = load(tmp_path / "beamline.toml")
        assert tomllib.loads(text).keys() <= {"detector", "scan"}
        for endpoint in config.detector.by_role.values():
            Interpreter(endpoint.format, endpoint.options)


def texts() -> list[str]:
    """All texts in the code, with a line feed for each value that is put in."""
    found = []
    for folder in ("streamptycho", "services"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(part.value if isinstance(part, ast.Constant) else "\n" for part in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


def test_its_messages_are_those_of_the_code():
    said = texts()
    for page in PAGES:
        table = page.read_text(encoding="utf-8").partition("## If you see")[2]
        messages = re.findall(r"^\| `([^|`]*)`", table, re.MULTILINE)
        assert len(messages) > 5, page.name
        for message in messages:
            pieces = [piece for piece in re.split(r"\.\.\.|[;:] ", message) if len(piece.strip()) >= LEAST]
            assert pieces, message
            for piece in pieces:
                assert any(piece.strip() in text for text in said), f"{page.name}: nothing says {piece!r}"


def test_its_sender_is_understood():
    page = (FOLDER / "your-own-daq.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    names: dict = {}
    exec(compile(code, "your-own-daq.md", "exec"), names)
    frames = np.arange(2 * 4 * 6, dtype=np.uint16).reshape(2, 4, 6)
    yx_m = np.array([[1e-6, 2e-6], [3e-6, -4e-6]])
    start, first, second, *ends = (decode(parts) for parts in names["scan"]("scan-42", frames, yx_m))
    assert isinstance(start, ScanStart)
    assert (start.scan_id, start.expected, start.geometry.frame_shape) == ("scan-42", 2, (4, 6))
    for number, message in enumerate((first, second)):
        assert isinstance(message, Frame)
        assert message.index.tolist() == [number]
        assert message.taken_yx_m is not None
        assert message.taken_yx_m.tolist() == [yx_m[number].tolist()]
        assert (message.payload.decode() == frames[number]).all()
    assert [(end.stream, end.count) for end in ends if isinstance(end, ScanEnd)] == [("frames", 2), ("positions", 2)]


def test_its_json_is_what_the_simulator_sends():
    page = (FOLDER / "your-own-daq.md").read_text(encoding="utf-8")
    shown = [json.loads(text) for text in re.findall(r'`?({"type": .*?})(?:`| before| after)', page)]
    assert [one["type"] for one in shown] == ["data", "start", "end"]
    sender = TableJson()
    place = dataclasses.replace(scans.positions(0), yx_m=np.array([[-2e-6, 1.5e-6]]))
    told = (scans.start("scan-42"), place, scans.end(1000, Stream.POSITIONS, "scan-42"))
    items = [Item(stream=Stream.POSITIONS, message=message) for message in told]
    start, data, ended = (json.loads(part) for item in items for (part,) in sender.messages(item))
    assert [data, start, ended] == shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_it_says_what_becomes_of_a_name_that_comes_twice(page: Path):
    assert "(../files.md#the-same-name-twice)" in page.read_text(encoding="utf-8")
    assert "### The same name twice\n" in (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
