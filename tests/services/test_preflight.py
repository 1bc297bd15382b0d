"""What is found to be wrong before anything starts: key, value and remedy in one line."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamptycho.config import Config, load
from streamptycho.errors import ConfigError
from streamptycho.wire.keys import write_key_pair
from streamptycho_services import cli
from streamptycho_services.processes import preflight
from streamptycho_services.processes.preflight import addresses, check
from tests import chain


def refused(settings: dict[str, Any], *services: str, **more: Any) -> str:
    with pytest.raises(ConfigError) as error:
        check(load(None, settings), *services, **more)
    return str(error.value)


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_what_is_right_passes(tmp_path):
    np.save(tmp_path / "mask.npy", np.ones((4, 4), np.bool_))
    settings = chain.config(tmp_path / "new" / "directory", preprocess__mask_file=tmp_path / "mask.npy")
    check(settings, "receive", "reconstruct", "write", "documents", apart=True)
    assert (tmp_path / "new" / "directory").is_dir()
    assert list((tmp_path / "new" / "directory").iterdir()) == []


class TestFiles:
    @pytest.mark.parametrize("key", ["mask_file", "background_file"])
    @pytest.mark.parametrize(
        ("make", "expected"),
        [
            (lambda path: None, "cannot be read (No such file or directory); give an existing file, or leave it out"),
            (Path.mkdir, "cannot be read (Is a directory)"),
            (lambda path: path.write_text("1 0 1"), "is not a NumPy file"),
            (lambda path: path.write_bytes(b""), "is not a NumPy file"),
            (lambda path: np.save(path, np.ones(5)), "holds float64 of shape (5,); give one number for each pixel"),
            (lambda path: np.save(path, np.array([["a"]])), "holds <U1 of shape (1, 1); give one number"),
        ],
        ids=["missing", "directory", "text", "empty", "row", "words"],
    )
    def test_that_cannot_be_used(self, key: str, make: Callable[[Path], Any], expected: str, tmp_path: Path) -> None:
        path = tmp_path / "file.npy"
        make(path)
        assert refused({f"preprocess.{key}": path}, "reconstruct").startswith(f"preprocess.{key}: {path} {expected}")

    def test_only_who_reads_them_needs_them(self, tmp_path):
        check(load(None, {"preprocess.mask_file": tmp_path / "none.npy", "write.directory": tmp_path}), "receive", "write")

    def test_a_home_is_understood(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        settings = load(None, {"write.directory": "~/data", "preprocess.mask_file": "~/mask.npy"})
        assert settings.write.directory == tmp_path / "data"
        assert settings.preprocess.mask_file == tmp_path / "mask.npy"
        (tmp_path / "beamline.toml").write_text("[engine]\nmodes = 3\n")
        assert load(Path("~/beamline.toml")).engine.modes == 3

    def test_an_unknown_home_is_told(self):
        with pytest.raises(ConfigError, match=r"write.directory: '~nobody-of-this-name/data' - .*write the path without ~"):
            load(None, {"write.directory": "~nobody-of-this-name/data"})
        with pytest.raises(ConfigError, match="write the path without ~"):
            load(Path("~nobody-of-this-name/beamline.toml"))


class TestDirectory:
    def test_that_is_a_file(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        line = refused({"write.directory": tmp_path / "file"}, "write")
        assert line == f"write.directory: {tmp_path / 'file'} cannot be written to (File exists); choose another --output"

    def test_that_takes_no_bytes(self, tmp_path, monkeypatch):
        full = OSError(28, "No space left on device")

        def refuse(**more: Any) -> None:
            assert more["dir"] == tmp_path
            raise full

        monkeypatch.setattr(preflight.tempfile, "TemporaryFile", refuse)
        assert "cannot be written to (No space left on device)" in refused({"write.directory": tmp_path}, "write")


class TestAddresses:
    @pytest.mark.parametrize("address", ["localhost:5555", "tcp://localhost", "tcp://:5555", "ipc://", "5555"])
    def test_that_are_none(self, address):
        line = refused({"detector.frames.address": address, "detector.frames.socket": "pull"}, "receive")
        assert line.startswith(f"detector.frames.address: {address!r} is no address; write tcp://HOST:PORT")

    def test_that_are_in_use(self, taken):
        bound = {"detector.positions.address": taken, "detector.positions.socket": "sub", "detector.positions.bind": True}
        line = refused(bound, "receive")
        assert line.startswith(f"detector.positions.address: cannot bind {taken}: Address already in use; end the program")
        check(load(None, bound | {"detector.positions.bind": False}), "receive")

    @pytest.mark.parametrize(
        ("service", "key"), [(service, key) for service, keys in preflight.BOUND.items() for key in keys]
    )
    def test_that_a_service_binds_on_its_host(self, service, key, taken, tmp_path):
        settings = chain.config(tmp_path)
        name = key.removeprefix("services.")
        settings = settings.model_copy(
            update={
                "services": settings.services.model_copy(update={name: taken}),
                "reconstruct": settings.reconstruct.model_copy(update={"allow_control": True}),
            }
        )
        (line,) = addresses(settings, service)
        assert line.startswith(f"{key}: cannot bind {taken}")
        check(settings, service)
        with pytest.raises(ConfigError, match=key):
            check(settings, service, apart=True)

    def test_nothing_listens_while_they_are_tried(self, tmp_path, monkeypatch):
        """A detector that connected would lose what it sends."""
        monkeypatch.setattr(socket.socket, "listen", pytest.fail)
        check(chain.config(tmp_path, chain.detector_at(bind=True)), "receive", apart=True)

    def test_each_service_that_runs_apart_is_known(self):
        names = [name.removeprefix("services.") for keys in preflight.BOUND.values() for name in keys]
        assert sorted(names) == sorted(Config().services.addresses())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"engine.backend": "cupy"}, "engine.backend: 'cupy' needs CuPy, which is not installed; pip install"),
        ({"engine.fft": "fftw"}, "engine.fft: 'fftw' is not installed; pip install 'streamptycho[fftw]'"),
        ({"preprocess.background": "pattern"}, "preprocess.background_file: must be given"),
    ],
)
def test_what_is_not_installed_or_given(settings, expected, monkeypatch):
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    assert refused(settings, "reconstruct").startswith(expected)


@pytest.mark.parametrize("command", ["run", "demo", "reconstruct"])
def test_all_of_it_is_told_at_once_with_exit_code_2(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    settings = ["preprocess.mask_file=/no/mask.npy", f"preprocess.background_file={tmp_path / 'file'}"]
    flags = [word for setting in settings for word in ("--set", setting)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["streamptycho", command, *flags])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "error: preprocess.mask_file: /no/mask.npy cannot be read" in said
    assert "preprocess.background_file: " in said
    assert "live page" not in said, "nothing was started"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, []),
        ({"detector.frames.address": "tcp://detector:5555"}, ["detector.frames (tcp://detector:5555)"]),
        ({"detector.frames.address": "ipc:///tmp/frames"}, []),
        ({"detector.frames.address": "tcp://*:5555", "detector.frames.bind": True}, []),  # its socket tells
        (
            {"detector.frames.address": "tcp://a:1", "detector.positions.address": "tcp://b:8888"},
            ["detector.frames (tcp://a:1)", "detector.positions (tcp://b:8888)"],
        ),
    ],
)
def test_streams_over_a_network_without_keys_are_told_in_one_line(settings, named, caplog):
    check(load(overrides=settings), "receive")
    lines = [line for line in caplog.messages if "without keys" in line]
    assert len(lines) == bool(named)
    assert all(name in lines[0] for name in named)


def test_keys_settle_that_where_they_are_used(tmp_path, caplog):
    _, secret = write_key_pair(tmp_path, "here")
    keys = {"security.secret_key": secret, "detector.frames.address": "tcp://192.0.2.1:1"}
    check(load(overrides=keys), "receive")
    assert caplog.messages == []
    check(load(overrides=keys | {"detector.frames.curve": False}), "receive")
    panda = {"detector.positions.address": "tcp://192.0.2.2:8888", "detector.positions.format": "panda"}
    check(load(overrides=keys | panda), "receive")
    first, second = caplog.messages
    assert first.startswith("detector.frames (tcp://192.0.2.1:1): without keys")
    assert second.startswith("detector.positions (tcp://192.0.2.2:8888): without keys")


def test_a_host_that_is_not_known_is_told_at_once_and_refuses_nothing(tmp_path, caplog):
    settings = {
        "detector.frames.address": "tcp://no-such-host.invalid:9999",
        "detector.positions.address": f"tcp://{'a' * 70}:5",
        "write.directory": tmp_path,
    }
    check(load(None, settings), "receive", "write")
    unknown = [message for message in caplog.messages if "is not known" in message]
    assert [message.partition(":")[0] for message in unknown] == ["detector.frames.address", "detector.positions.address"]
    assert "the host 'no-such-host.invalid' is not known (" in unknown[0]
    caplog.clear()
    check(load(None, {"write.directory": tmp_path}), "receive", "write")
    assert not caplog.messages
