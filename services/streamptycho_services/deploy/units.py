"""Unit files: ``streamptycho.service`` for all services on one machine, or one for each and a target that groups them."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

from streamptycho.errors import ConfigError

TEMPLATE = Path(__file__).with_name("service.template")
ALL = "streamptycho"
TARGET = f"{ALL}.target"


@dataclass(frozen=True, slots=True)
class Unit:
    """What differs from service to service."""

    command: str
    what: str
    after: tuple[str, ...] = ()
    """Units that should be there first, where they run on this machine."""
    writes: bool = False
    """It takes ``--output``."""
    computes: bool = False
    """It may use a GPU, and take long over one step."""
    waits: bool = False
    """It is ready only once others are there."""
    oom_score: int = 0
    """Who goes first when memory runs out: the higher the sooner."""

    @property
    def name(self) -> str:
        """File name of the unit."""
        return f"{ALL}.service" if self.command == "run" else f"{ALL}-{self.command}.service"


UNITS = (
    Unit("run", "all services", writes=True, computes=True, oom_score=-200),
    Unit("write", "the writer", writes=True, oom_score=-500),
    Unit("reconstruct", "the reconstruction", computes=True, oom_score=300),
    Unit("receive", "the receiver", after=("write", "reconstruct"), waits=True, oom_score=-500),
    Unit("dashboard", "the live page", oom_score=500),
    Unit("documents", "bluesky documents", oom_score=500),
)
_TARGET = f"""# Made by `streamptycho units`: groups the services that run apart.
[Unit]
Description=streamptycho: services that run apart
Conflicts={ALL}.service

[Install]
WantedBy=multi-user.target
"""


def write_units(directory: Path, config: Path | None, output: Path, user: str) -> list[Path]:
    """Write all units into a directory; the programs are those of this installation.

    Raises :class:`ConfigError` if the directory cannot be written, or if a path cannot stand in a unit.
    """
    files = {unit.name: _text(unit, config, output, user) for unit in UNITS} | {TARGET: _TARGET}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written ({error.strerror}); choose another") from error
    return [directory / name for name in files]


def _text(unit: Unit, config: Path | None, output: Path, user: str) -> str:
    arguments = [*_program(), unit.command]
    arguments += ["--config", str(config.absolute())] if config is not None else []
    arguments += ["--output", str(output.absolute())] if unit.writes else []
    alone = unit.command == "run"
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=unit.name,
        what=unit.what,
        after="".join(f" {ALL}-{other}.service" for other in unit.after),
        belongs=f"Conflicts={TARGET}" if alone else f"PartOf={TARGET}",
        command=" ".join(_quoted(argument.replace("$", "$$")) for argument in arguments),  # only there it is a variable
        output=_quoted(str(output.absolute())),
        user=user,
        start_limit="infinity" if unit.waits else "10min",
        watchdog_s=300 if unit.computes and not alone else 60,
        oom_score=unit.oom_score,
        private_devices="no" if unit.computes else "yes",
        wanted_by="multi-user.target" if alone else TARGET,
    )


def _program() -> list[str]:
    script = shutil.which("streamptycho", path=str(Path(sys.executable).parent))
    return [script] if script is not None else [sys.executable, "-m", "streamptycho_services.cli"]


def _quoted(text: str) -> str:
    """An argument as systemd reads it. Raises :class:`ConfigError` for characters that no unit can hold."""
    if not text.isprintable():
        raise ConfigError(f"{text!r}: has characters that cannot stand in a unit; choose another path")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if escaped != text or " " in text or "'" in text or ";" in text else text
