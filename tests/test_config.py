"""One TOML file: what it says is what is used, and what it gets wrong is named with the remedy."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from streamptycho.config import Config, load
from streamptycho.errors import ConfigError
from streamptycho.files.options import ReadOptions
from streamptycho.options import Options
from streamptycho.wire.endpoint import SocketKind

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(*args, **more) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*args, **more)
    return str(caught.value)


def tables(model: type[BaseModel] = Config, prefix: str = "") -> list[tuple[str, type[BaseModel]]]:
    """Every table of the configuration by its dotted name."""
    out = [(prefix.rstrip("."), model)]
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            out += tables(field.annotation, f"{prefix}{name}.")
    return out


def test_without_a_file_all_is_default():
    assert load() == Config()


def test_a_file_is_read(write):
    config = load(
        write(
            """
            [detector.frames]
            address = "tcp://detector:9999"  # µ
            socket = "sub"
            [match]
            settle_s = 0.5
            [engine.rule]
            [engine]
            modes = 3
            [preprocess]
            crop = [64, 32]
            """
        )
    )
    assert (config.detector.frames.address, config.detector.frames.socket) == ("tcp://detector:9999", SocketKind.SUB)
    assert (config.match.settle_s, config.engine.modes, config.preprocess.crop) == (0.5, 3, (64, 32))
    assert config.match.timeout_s == Config().match.timeout_s


def test_overrides_win_over_the_file_and_the_file_over_defaults(write):
    path = write("[engine]\nmodes = 3\nseed = 7\n")
    config = load(path, {"engine.modes": 2, "reconstruct.max_scans": 5, "engine.rule": {}})
    assert (config.engine.modes, config.engine.seed, config.reconstruct.max_scans) == (2, 7, 5)


def test_what_an_endpoint_leaves_out_is_as_its_format_wants_it(write):
    def ends(text: str) -> list[tuple[str, str]]:
        return [(end.address, end.socket) for end in load(write(text)).detector.by_role.values()]

    usual = [("tcp://127.0.0.1:5555", "pull"), ("tcp://127.0.0.1:5556", "sub")]
    assert ends("") == usual
    address = 'address = "tcp://there:1"'
    assert ends(f"[detector.frames]\n{address}") == [("tcp://there:1", "pull"), usual[1]]
    assert ends(f"[detector.positions]\n{address}") == [usual[0], ("tcp://there:1", "sub")]
    assert ends('[detector.frames]\nsocket = "sub"') == [("tcp://127.0.0.1:5555", "sub"), usual[1]]
    assert ends(f"[detector.documents]\n{address}") == [*usual, ("tcp://there:1", "sub")]


def test_an_override_below_a_value_is_refused(write):
    assert "engine.modes: engine is a value, not a table" in refused(write("engine = 5\n"), {"engine.modes": 2})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[engine]\nmods = 2\n", "engine.mods: unknown key; did you mean 'modes'?"),
        ("[enginee]\nmodes = 2\n", "enginee: unknown key; did you mean 'engine'?"),
        ("[engine.rule]\ngama_object = 1\n", "engine.rule.gama_object: unknown key; did you mean 'gamma_object'?"),
        ("[detector]\nzzz = 1\n", "detector.zzz: unknown key; known keys: documents, frames, positions"),
        ("[engine]\nmodes = 'many'\n", "engine.modes: 'many' - "),
        ("[engine]\nmodes = 0\n", "engine.modes: 0 - Input should be greater than or equal to 1"),
        ("[match]\nsettle_s = -1.5\n", "match.settle_s: -1.5 - "),
        ("[detector.frames]\naddress = 'a'\nsocket = 'pair'\n", "detector.frames.socket: 'pair' - "),
        ("[detector.documents]\nsocket = 'sub'\n", "detector.documents.address: missing; set it"),
        ("[detector.frames]\nsocket = 'push'\n", "detector.frames.socket: 'push' - cannot receive; use pull, sub, stream"),
        ("[detector.frames]\nsocket = 'stream'\naddress = 'tcp://x'\n", "'tcp://x' does not name a host and a port"),
        ("[detector.frames]\naddress = 'a'\nsocket = 'pull'\nqueue = 0\n", "detector.frames.queue: 0 - "),
        ("match = 3\n", "match: 3 - "),
    ],
)
def test_mistakes_are_named_with_key_and_remedy(write, text, said):
    path = write(text)
    message = refused(path)
    assert said in message
    assert message.startswith(f"{path}: ")


def test_every_mistake_is_named(write):
    message = refused(write("[engine]\nmods = 2\nseed = 'x'\n[match]\nmax_index = 0\n"))
    assert len(message.splitlines()) == 3
    assert all(key in message for key in ("engine.mods", "engine.seed", "match.max_index"))


def test_a_bad_override_is_named():
    assert refused(overrides={"engine.modes": "x"}).startswith("configuration: engine.modes: 'x' - ")
    assert "did you mean 'modes'" in refused(overrides={"engine.mode": 1})


def test_a_file_that_is_not_there(tmp_path):
    message = refused(tmp_path / "none.toml")
    assert "none.toml: cannot be read" in message
    assert "give an existing file" in message
    assert "cannot be read" in refused(tmp_path)


def test_a_file_that_is_not_toml(write, tmp_path):
    assert "not valid TOML" in refused(write("[engine\n"))
    path = tmp_path / "latin.toml"
    path.write_bytes(b"title = '\xb5'\n")
    assert "not valid TOML" in refused(path)


def test_the_defaults_survive_being_written_down():
    config = Config()
    assert Config.model_validate(config.model_dump()) == config
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(("name", "table"), tables(), ids=[name or "all" for name, _ in tables()])
def test_every_table_is_strict_and_documented(name, table):
    assert issubclass(table, Options)
    key = f"{name}.no_such_key".lstrip(".")
    overrides = {f"{name}.address": "inproc://x", f"{name}.socket": "pull"} if "address" in table.model_fields else {}
    assert f"{key}: unknown key" in refused(overrides=overrides | {key: 1})
    for field_name, field in table.model_fields.items():
        is_table = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        assert field.description or is_table, f"{name}.{field_name} has no description"


def toml_examples() -> list[tuple[str, str]]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = []
    for page in pages:
        if page.is_file():
            blocks = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
            found += [(f"{page.name}-{i}", block) for i, block in enumerate(blocks)]
    return found


def test_the_examples_in_the_documentation_load(write):
    for name, text in toml_examples():
        if tomllib.loads(text).keys() <= Config.model_fields.keys():
            assert isinstance(load(write(text)), Config), name
        else:
            pytest.fail(f"{name}: not a configuration, or one with an unknown table")


def test_how_files_are_read_can_be_set(write):
    config = load(write("[read]\nmask = 'zero-is-good'\npixel_size_m = [1e-5, 2e-5]"), {"read.energy_ev": 8000})
    assert (config.read.energy_ev, config.read.mask, config.read.pixel_size_m) == (8000, "zero-is-good", (1e-5, 2e-5))


def test_every_setting_that_a_file_asks_for_exists():
    """Errors of the file package say ``set read.NAME``."""
    source = "".join(path.read_text() for path in (ROOT / "streamptycho" / "files").rglob("*.py"))
    asked = set(re.findall(r"\bread\.(\w+)", source)) | set(re.findall(r'(?:length_m|reading)\(.*, "(\w+)"[,)]', source))
    assert {"energy_ev", "distance_m", "mask"} <= asked - {"OPTION"} <= set(ReadOptions.model_fields)


def test_positions_are_made_metres_once():
    panda = {"detector.positions": {"address": "tcp://panda:8889", "format": "panda"}}
    load(None, panda | {"scan.unit": "mm"})
    load(None, {"positions.unit": "um"})
    with pytest.raises(ConfigError, match=r"positions.unit: 'um' - positions in the format 'panda' are made metres before"):
        load(None, panda | {"positions.unit": "um"})
