"""Base classes: of all option tables, and of what must be closed."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("no such home directory is known here; write the path without ~") from error


LocalPath = Annotated[Path, AfterValidator(_expanded)]
"""A path of this machine, in which ``~`` is the user's home."""


class Options(BaseModel):
    """One table of the configuration file: immutable, strict about unknown keys, documented field by field.

    The options of a module live beside the code they configure.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )


class Closing:
    """Closes itself at the end of a ``with`` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release what is held."""
        raise NotImplementedError
