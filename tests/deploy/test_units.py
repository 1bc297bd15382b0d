"""Unit files for systemd: complete, correct in the eyes of systemd, and what they start exists."""

import os
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamptycho.errors import ConfigError
from streamptycho_services import cli
from streamptycho_services.deploy.units import TARGET, UNITS, write_units

NAMES = [unit.name for unit in UNITS]


class Lines(ConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


def read(path: Path) -> Lines:
    lines = Lines(interpolation=None, comment_prefixes=("#",), delimiters=("=",))
    lines.read_string(path.read_text())
    return lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("units")
    write_units(folder / "units", folder / "beamline.toml", folder / "data", "root")
    return folder / "units"


def test_there_is_one_for_each_service_and_one_for_all(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NAMES, TARGET])
    commands = {command.name or command.callback.__name__ for command in cli.app.registered_commands}  # type: ignore[union-attr]
    assert {unit.command for unit in UNITS} <= commands
    assert {"run", "receive", "reconstruct", "write", "dashboard", "documents"} == {unit.command for unit in UNITS}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_has_nothing_to_say_against_them(folder):
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(map(str, folder.iterdir()))],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_what_it_starts_exists_and_takes_these_flags(folder, name):
    program, *arguments = shlex.split(read(folder / name)["Service"]["ExecStart"])
    assert os.access(program, os.X_OK)
    if arguments[0] == "-m":
        arguments = arguments[2:]
    result = CliRunner().invoke(cli.app, [*arguments, "--help"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", NAMES)
def test_a_service_that_dies_or_hangs_is_started_again_for_ever(folder, name):
    unit = read(folder / name)
    service = unit["Service"]
    assert (service["Type"], service["Restart"], service["KillMode"]) == ("notify", "on-failure", "mixed")
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert 30 <= int(service["WatchdogSec"]) <= 300
    assert int(service["TimeoutStopSec"]) > 10, "longer than the end in order takes"
    assert str(cli.NOT_WHOLE) in service["SuccessExitStatus"].split()
    assert service["RestartPreventExitStatus"] == str(cli.REPLACED), "two would take each other's place for ever"


@pytest.mark.parametrize("name", NAMES)
def test_only_the_output_can_be_written(folder, name):
    service = read(folder / name)["Service"]
    assert (service["ProtectSystem"], service["ProtectHome"], service["NoNewPrivileges"]) == ("strict", "read-only", "yes")
    assert service["ReadWritePaths"] == str(folder.parent / "data")
    assert "MemoryDenyWriteExecute" not in service, "compiled kernels need it"
    computes = name in ("streamptycho.service", "streamptycho-reconstruct.service")
    assert (service["PrivateDevices"] == "no") == computes, "a GPU is a device"


def test_all_together_and_apart_exclude_each_other(folder):
    assert read(folder / "streamptycho.service")["Unit"]["Conflicts"] == TARGET
    assert read(folder / TARGET)["Unit"]["Conflicts"] == "streamptycho.service"
    for name in NAMES[1:]:
        assert read(folder / name)["Install"]["WantedBy"] == TARGET
        assert read(folder / name)["Unit"]["PartOf"] == TARGET


def test_who_holds_frames_goes_last_when_memory_runs_out(folder):
    score = {name: int(read(folder / name)["Service"]["OOMScoreAdjust"]) for name in NAMES}
    holders = max(score["streamptycho-write.service"], score["streamptycho-receive.service"])
    assert holders < 0 < score["streamptycho-reconstruct.service"] <= score["streamptycho-dashboard.service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_paths_may_hold_what_systemd_takes_for_something_else(tmp_path):
    odd = tmp_path / 'a "b" $HOME 100% c\\d'
    paths = write_units(tmp_path / "units", odd / "x.toml", odd, "root")
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(paths[0])], capture_output=True, text=True, timeout=60, check=False
    )
    assert (said.returncode, said.stderr) == (0, "")
    line = read(paths[0])["Service"]["ExecStart"]
    assert shlex.split(line)[-1].replace("$$", "$").replace("%%", "%") == str(odd)


def test_a_path_that_no_unit_can_hold_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot stand in a unit"):
        write_units(tmp_path, None, tmp_path / "a\nb", "root")


def test_the_command_prints_what_it_has_written(tmp_path):
    result = CliRunner().invoke(cli.app, ["units", str(tmp_path / "units"), "--output", str(tmp_path), "--user", "beamline"])
    assert result.exit_code == 0, result.output
    assert sorted(result.stdout.split()) == sorted(map(str, (tmp_path / "units").iterdir()))
    assert read(tmp_path / "units" / "streamptycho.service")["Service"]["User"] == "beamline"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="file: cannot be written"):
        write_units(tmp_path / "file", None, tmp_path, "root")
