"""Base class of all option tables: immutable, strict about unknown keys, documented field by field."""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """One table of the configuration file. The options of a module live beside the code they configure."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )
