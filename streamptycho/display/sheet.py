"""One picture of a result: phase with a scale bar, probe, error after each pass, and in words whether it can be trusted."""

import textwrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from streamptycho.display.phase import displayed_phase, length_words, scale_bar, to_gray
from streamptycho.messages.results import Assessment, Snapshot

_PHASE, _SIDE, _GAP, _LINE, _FONT = 480, 200, 12, 18, 13
_BACK, _INK, _DIM, _GOOD, _BAD = (16, 18, 22), (225, 228, 232), (140, 146, 154), (110, 200, 130), (240, 170, 60)


def sheet(snapshot: Snapshot, assessment: Assessment, *, finished: bool) -> Image.Image:
    """RGB picture, about 720 pixels wide."""
    phase = displayed_phase(snapshot.object, snapshot.covered)
    image = _fitted(Image.fromarray(to_gray(phase)), _PHASE)
    width = max(image.width, _PHASE) + _SIDE + 3 * _GAP
    words = [(("" if finished else "Unfinished. ") + assessment.verdict, _GOOD if assessment.trusted else _BAD)]
    words += [(text, _INK) for text in assessment.findings.values()]
    lines = [(line, ink) for text, ink in words for line in textwrap.wrap(text, width // 7)]
    upper = max(image.height + 2 * _LINE, 2 * (_SIDE + _LINE) + _GAP)
    canvas = Image.new("RGB", (width, upper + len(lines) * _LINE + 3 * _GAP), _BACK)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_FONT)
    left = _GAP + (width - _SIDE - 3 * _GAP - image.width) // 2
    canvas.paste(image.convert("RGB"), (left, _GAP))
    low, high = np.nanpercentile(phase, (0.5, 99.5)) if np.isfinite(phase).any() else (0.0, 0.0)
    bar_m, bar_px = scale_bar(snapshot.pixel_m[1] * phase.shape[1] / image.width, image.width)
    y = _GAP + image.height + 8
    draw.rectangle((_GAP, y, _GAP + bar_px, y + 3), fill=_INK)
    draw.text((_GAP + bar_px + 8, y - 6), f"{length_words(bar_m)}    phase {low:.2f} to {high:.2f} rad", _INK, font)
    x = width - _SIDE - _GAP
    canvas.paste(_fitted(Image.fromarray(_hues(snapshot.probe)), _SIDE), (x, _GAP))
    draw.text((x, _GAP + _SIDE + 2), f"probe, {_count(len(snapshot.probe), 'mode')}", _DIM, font)
    top = 2 * _GAP + _SIDE + _LINE
    _curve(draw, snapshot.error_history, (x, top, x + _SIDE, top + _SIDE))
    passes = _count(len(snapshot.error_history), "pass", "passes")
    draw.text((x, top + _SIDE + 2), f"error {snapshot.error:.4f} after {passes}", _DIM, font)
    for k, (line, ink) in enumerate(lines):
        draw.text((_GAP, upper + 2 * _GAP + k * _LINE), line, ink, font)
    return canvas


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def _fitted(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BICUBIC)


def _hues(probe: NDArray[np.complex64]) -> NDArray[np.uint8]:
    """Strongest mode of (modes, ny, nx) in colour: phase as hue, amplitude as brightness; (ny, nx, 3)."""
    amplitude = np.abs(probe[0]) / max(float(np.abs(probe[0]).max()), 1e-30)
    third = np.arange(3) * (2 * np.pi / 3)
    wheel = 0.5 + 0.5 * np.cos(np.angle(probe[0])[..., None] - third)
    return np.asarray(255 * amplitude[..., None] * wheel, np.uint8)


def _curve(draw: ImageDraw.ImageDraw, errors: NDArray[np.float32], box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    draw.rectangle(box, outline=_DIM)
    known = errors[np.isfinite(errors) & (errors > 0)]
    if len(known) < 2:
        return
    values = np.log10(known.astype(np.float64))
    share = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
    x = np.linspace(left + 4, right - 4, len(known))
    y = bottom - 4 - share * (bottom - top - 8)
    draw.line([(float(a), float(b)) for a, b in zip(x, y, strict=True)], fill=_INK, width=2)
