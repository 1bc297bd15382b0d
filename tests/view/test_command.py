"""The command ``streamptycho view``."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from streamptycho.errors import ConfigError
from streamptycho_services import cli
from streamptycho_services.view import need
from tests.chain import PROGRAM, Command
from tests.ports import free_address
from tests.view.helpers import Run, maps, marked_object, progress, quality
from tests.view.served import service


@pytest.mark.parametrize(
    ("missing", "front_end", "extra"),
    [
        ("bluesky_widgets", "view", "view"),
        ("matplotlib", "qt", "view"),
        ("qtpy", "qt", "view"),
        ("ipympl", "jupyter", "jupyter"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    missing: str, front_end: str, extra: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else object())
    with pytest.raises(ConfigError, match=rf"{missing}.*pip install 'streamptycho\[{extra}\]'"):
        need(front_end)


def test_the_command_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "bluesky_widgets" else object())
    monkeypatch.setattr("sys.argv", ["streamptycho", "view", "--headless", "nowhere"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the package bluesky_widgets is not installed")
    assert "pip install 'streamptycho[view]'" in said
    assert not Path("nowhere").exists()


def test_help_needs_none_of_it():
    code = (
        "import sys; from typer.testing import CliRunner; from streamptycho_services import cli;"
        "assert CliRunner().invoke(cli.app, ['view', '--help']).exit_code == 0;"
        "print([m for m in ('matplotlib', 'bluesky_widgets', 'qtpy', 'event_model', 'zmq') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(json.loads(loaded.replace("'", '"'))) <= {"zmq", "event_model"}


class TestHeadless:
    """In a process of its own."""

    @pytest.fixture(autouse=True)
    def _extra(self) -> None:
        pytest.importorskip("bluesky_widgets", reason="needs streamptycho[view]")
        pytest.importorskip("matplotlib", reason="needs streamptycho[view]")

    def test_pictures_are_written_while_it_runs_and_at_the_end(self, tmp_path: Path):
        with service() as served:
            run = Run(served.keep, "star")
            run.event("object", marked_object())
            run.event("maps", maps())
            where = ("--address", served.where.documents, "--catch-up", served.where.catch_up)
            command = Command(PROGRAM, "view", "--headless", tmp_path / "out", *where, "--every", "0.5")
            with command:
                command.wait_while_running((tmp_path / "out" / "object.png").is_file, "the first picture")
                served.wait_for_viewer()
                run._take = served.tell
                run.event("progress", progress())
                run.event("quality", quality())
                run.stop()
                command.wait_while_running((tmp_path / "out" / "star-progress.png").is_file, "the pictures of the end")
                command.process.send_signal(signal.SIGINT)
                assert command.wait() == 0, command.err
                assert "Traceback" not in command.err
        for name in ("object", "progress", "data", "star-object", "star-probe", "star-progress", "star-data"):
            with Image.open(tmp_path / "out" / f"{name}.png") as image:
                assert len(image.convert("RGB").getcolors(1 << 24)) > 30, name
        assert not list((tmp_path / "out").glob("*.partial"))

    def test_nobody_there(self, tmp_path: Path):
        address = free_address()
        with Command(PROGRAM, "view", "--headless", tmp_path, "--address", address, "--seconds", "1") as command:
            assert command.wait() == 1
            assert f"nothing came from {address} in 1 s" in command.err
            assert "Traceback" not in command.err

    def test_a_directory_that_cannot_be_made(self, tmp_path: Path):
        (tmp_path / "file").write_text("")
        with Command(PROGRAM, "view", "--headless", tmp_path / "file" / "x", "--seconds", "1") as command:
            assert command.wait() == 2
            assert "cannot be created" in command.err
            assert "--headless" in command.err

    def test_an_address_from_which_nothing_follows(self):
        result = CliRunner().invoke(cli.app, ["view", "--headless", "x", "--address", "ipc:///tmp/d"])
        assert isinstance(result.exception, ConfigError)
        assert "--catch-up" in str(result.exception)
