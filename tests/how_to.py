"""What the pages of docs/how-to say."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "how-to"


def settings(page: str) -> Iterator[str]:
    """The text of each configuration on a page."""
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    for indent, block in re.findall(r"^( *)```toml\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        yield re.sub(f"^{indent}", "", block, flags=re.MULTILINE)


def page_options(page: str, format: str) -> dict[str, Any]:
    """The options that a page gives for positions in a format."""
    found = [tomllib.loads(text)["detector"].get("positions", {}) for text in settings(page)]
    (options,) = (positions["options"] for positions in found if positions.get("format") == format)
    return options
