"""A page that shows the newest picture of a scan from the output directory, without a server."""

from html import escape
from pathlib import Path

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ background: #111; color: #ddd; font: 16px sans-serif; margin: 1em }}
img {{ image-rendering: pixelated; max-height: 88vh }}
</style>
<h1>{title}</h1><img id="picture" src="{picture}" alt="object phase">
<script>
const picture = document.getElementById("picture");
setInterval(() => {{
  const next = new Image();
  next.onload = () => {{ picture.src = next.src; }};
  next.src = "{picture}?" + Date.now();
}}, 500);
</script></html>
"""


def write_page(directory: Path, scan_id: str, picture: str) -> Path:
    """Write ``live.html`` into `directory`; it reloads `picture` (a file name there) twice a second."""
    page = directory / "live.html"
    page.write_text(_PAGE.format(title=escape(scan_id), picture=escape(picture, quote=True)), encoding="utf-8")
    return page
