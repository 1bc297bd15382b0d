"""A picture worth a page of the logbook: the phase with its scales, and what it is of."""

import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from streamptycho.display.phase import contrast, displayed_phase, length_words, scale_bar, to_gray
from streamptycho.messages.geometry import in_unit
from streamptycho.messages.results import Assessment, Snapshot

_SMALLEST, _LARGEST, _GAP, _LINE, _FONT, _BAR, _RIGHT = 480, 1024, 14, 20, 14, 18, 76
_BACK, _INK = 255, 0


def logbook(snapshot: Snapshot, assessment: Assessment | None = None) -> Image.Image:
    """Gray picture: phase without ramp, scale bar, colour bar in radians, scan, date, frames, resolution, verdict."""
    phase = displayed_phase(snapshot.object, snapshot.covered)
    stride = math.ceil(max(phase.shape) / _LARGEST)
    image = Image.fromarray(to_gray(phase[::stride, ::stride]))
    zoom = max(1, _SMALLEST // max(image.size))
    image = image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)
    words = _words(snapshot, assessment)
    width, top = max(image.width, _SMALLEST) + _RIGHT + 3 * _GAP, _GAP + 2 * _LINE
    height = max(image.height, _SMALLEST // 2)
    canvas = Image.new("L", (width, top + height + _GAP + (len(words) - 1) * _LINE + _GAP), _BACK)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(_FONT)
    draw.text((_GAP, _GAP), _fitting(snapshot.scan_id, width, font), _INK, font)
    draw.text((_GAP, _GAP + _LINE), words[0], _INK, font)
    canvas.paste(image, (_GAP, top))
    length_m, pixels = scale_bar(snapshot.pixel_m[1] * stride / zoom, image.width)
    x, y = 2 * _GAP, top + image.height - 2 * _GAP
    draw.rectangle((x - 6, y - _LINE - 4, x + max(pixels, 60) + 6, y + 10), fill=_BACK)
    draw.rectangle((x, y, x + pixels, y + 4), fill=_INK)
    draw.text((x, y - _LINE), length_words(length_m), _INK, font)
    low, high = contrast(phase)
    x = width - _RIGHT - _GAP
    canvas.paste(Image.fromarray(np.repeat(np.linspace(255, 1, height).astype(np.uint8)[:, None], _BAR, 1)), (x, top))
    draw.rectangle((x, top, x + _BAR - 1, top + height - 1), outline=_INK)
    for share, value in ((0.0, high), (0.5, (low + high) / 2), (1.0, low)):
        draw.text((x + _BAR + 6, top + share * (height - _LINE)), f"{value:.2f}{' rad' if not share else ''}", _INK, font)
    for k, line in enumerate(words[1:]):
        draw.text((_GAP, top + height + _GAP + k * _LINE), _fitting(line, width, font), _INK, font)
    return canvas


def save_picture(path: Path, snapshot: Snapshot, assessment: Assessment | None = None) -> None:
    """Write it as PNG; the file is replaced in one step, so that a viewer never reads half of it."""
    partial = path.with_suffix(".partial")
    logbook(snapshot, assessment).save(partial, format="PNG")
    partial.replace(path)


def _fitting(line: str, width_px: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The line, cut where it does not fit."""
    cut = line
    while font.getlength(cut) > width_px - 2 * _GAP:
        line = line[:-1]
        cut = line + "..."
    return cut


def _words(snapshot: Snapshot, assessment: Assessment | None) -> list[str]:
    resolution_m = math.nan if assessment is None else assessment.figures.get("resolution_m", math.nan)
    began = snapshot.started_ns or snapshot.time_ns
    date = datetime.fromtimestamp(began / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC") if began else "no date"
    pixel = " x ".join("{:.3g} {}".format(*in_unit(one)) for one in dict.fromkeys(snapshot.pixel_m))
    known = "{:.3g} {}".format(*in_unit(resolution_m)) if math.isfinite(resolution_m) else "not known"
    state = "final" if snapshot.final else "live"
    error = f"error {snapshot.error:.4f}" if math.isfinite(snapshot.error) else "no error yet"
    lines = [
        f"{date}, {snapshot.frames_used} frames, {state}, {error}",
        f"phase in rad without ramp; pixel {pixel}; resolution {known}",
        snapshot.algorithm,
        "" if assessment is None else assessment.verdict,
    ]
    return [line for line in lines if line]
