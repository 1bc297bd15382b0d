"""The text beside a growing file: it is right, and it is there as long as the file is not."""

import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from streamptycho.files.durable.disk import abandon
from streamptycho.files.durable.note import put_note, remove_note
from streamptycho.files.recover import recover
from streamptycho.files.writer import CxiWriter
from tests.files import factories
from tests.pipeline.writing import Run, final, last_word, over
from tests.scans import frame, positions, start

DOCS = Path(__file__).parents[2] / "docs" / "files.md"


def told_by(code: str, folder: Path) -> str:
    code += "\nprint(good.tolist(), frames[good].sum())"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("source", ["note", "docs"])
def test_its_lines_read_a_growing_file(tmp_path, source):
    path = tmp_path / "scan.cxi"
    with CxiWriter(path, factories.start()) as writer:
        writer.append(factories.raw(factories.pixels(3), [0, 1, 3]))
        writer.flush()
        put_note(path)
        if source == "note":
            text = (tmp_path / "scan.growing.txt").read_text()
            code = textwrap.dedent(
                "\n".join(line for line in text.splitlines() if line.startswith("    ")).split("    stream")[0]
            )
        else:
            code = DOCS.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
        assert len(list(filter(None, code.splitlines()))) == 5
        assert told_by(code, tmp_path) == f"[True, True, False, True] {factories.pixels(3).sum()}\n"


def test_it_is_there_while_the_file_grows_and_as_long_as_it_has_no_end(tmp_path):
    run = Run(tmp_path)
    note, path = tmp_path / "s.growing.txt", tmp_path / "s.cxi"
    run(start(), frame(range(3)), positions(range(3)))
    assert "streamptycho recover s.cxi" in note.read_text()
    abandon(run.stage.scans.pop("s").writer._file)
    assert note.exists(), "the writer died"
    new = Run(tmp_path)
    assert note.exists()
    new(last_word(unique=3, positions=3, started_ns=1), over(), final(), counted=False).wait()
    assert not note.exists()
    put_note(path)
    recover(path)
    assert not note.exists()


def test_a_folder_that_takes_no_text_costs_a_line(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    put_note(tmp_path / "none" / "s.cxi")
    assert "s.growing.txt: cannot be written" in caplog.text
    (tmp_path / "s.growing.txt").mkdir()
    remove_note(tmp_path / "s.cxi")
    assert "s.growing.txt: cannot be removed, and is wrong from now on" in caplog.text
