"""A test object with known truth, drawn from formulas: star, gratings, writing, sunflower, polygons and dots.

The canvas is tiled with motifs whose details have fixed sizes in pixels (down to 1 px), with one large Siemens star on top.
Phase carries the motifs; amplitude has its own layer of discs and mesh, so that neither can be copied from the other.
Everything is drawn at twice the resolution and averaged, which softens edges like those of a real object.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import gaussian_filter

from streamptycho.options import Options

Layer: TypeAlias = NDArray[np.float32]
Draw: TypeAlias = Callable[[np.random.Generator, int], Layer]

FINE = 2
"""Sub-pixels per pixel and axis while drawing."""
CELL_PX = 112
"""Side of one motif, pixels."""

# rows of a 5 x 7 dot matrix, top first, one octal pair of digits per row
_GLYPHS = {
    "A": "16212137212121",
    "C": "16212020202116",
    "E": "37202036202037",
    "G": "16212027212116",
    "H": "21212137212121",
    "I": "16040404040416",
    "L": "20202020202037",
    "M": "21332525212121",
    "N": "21213125232121",
    "O": "16212121212116",
    "P": "36212136202020",
    "R": "36212136242221",
    "S": "16212016012116",
    "T": "37040404040404",
    "V": "21212121121204",
    "X": "21211204122121",
    "Y": "21211204040404",
}
_WORDS = ("PTYCHO", "LIVE", "STREAM", "PHASE", "X", "RAY", "MICROSCOPY", "SCAN", "HOLOGRAM", "SPECIMEN")


class SpecimenOptions(Options):
    """Strength of the object."""

    phase_rad: float = Field(default=1.25, ge=0, le=3.0)
    """Phase range of the object, radians."""
    absorption: float = Field(default=0.4, ge=0, lt=1)
    """Amplitude runs from 1 - absorption to 1."""


def draw(shape: tuple[int, int], options: SpecimenOptions, seed: int) -> NDArray[np.complex64]:
    """Transmission of the specimen, (ny, nx) complex64; `shape` in pixels."""
    rng = np.random.default_rng((seed, 1))
    motifs = _paste_star(rng, _tile(rng, shape))
    absorbers = _absorbers(rng, shape)
    thickness = _smooth(rng, shape, 40)
    phase = 0.7 * motifs + 0.3 * thickness
    loss = 0.6 * absorbers + 0.28 * _smooth(rng, shape, 25) + 0.12 * motifs
    amplitude = 1 - options.absorption * _stretch(loss)
    return np.asarray(amplitude * np.exp(1j * options.phase_rad * _stretch(phase)), np.complex64)


def siemens_star(side: int, spokes: int = 36) -> Layer:
    """Siemens star in a (side, side) cell, with two gaps that mark radii; values 0 to 1."""
    y, x = _grid(side)
    r, theta = np.hypot(y, x), np.arctan2(y, x)
    star = np.sin(spokes * theta) > 0
    outer = 0.47 * side
    star &= (r < outer) & (r > 2.5)
    for ring in (0.33, 0.66):
        star &= abs(r - ring * outer) > 2
    return _coarse(star)


def gratings(rng: np.random.Generator, side: int) -> Layer:
    """Patches of parallel lines 1.5 to 8 px wide, alternately vertical and horizontal, one patch oblique."""
    y, x = _grid(side)
    canvas = np.zeros(y.shape, np.float32)
    widths = rng.permutation(np.array([1.5, 2, 2.5, 3, 4, 5, 6, 8, 2]))
    third = side / 3
    for k, width in enumerate(widths):
        row, column = divmod(k, 3)
        inside = (abs(y - (row - 1) * third) < 0.42 * third) & (abs(x - (column - 1) * third) < 0.42 * third)
        angle = np.pi / 2 * (k % 2) + (np.pi / 5 if k == 4 else 0)
        lines = np.floor((y * np.sin(angle) + x * np.cos(angle)) / width) % 2 == 0
        canvas[inside & lines] = 1
    return _coarse(canvas)


def writing(rng: np.random.Generator, side: int) -> Layer:
    """Lines of words in a dot-matrix type, dots of 3, 2 and 1 px."""
    page = np.zeros((side, side), np.float32)
    top = 2
    for dot in (3, 2, 2, 1, 1, 2, 1, 1, 3, 2, 1, 1):
        if top + 7 * dot > side - 2:
            continue
        line = _line(rng, dot, side - 4)
        page[top : top + 7 * dot, 2 : 2 + line.shape[1]] = line
        top += 10 * dot
    return page


def sunflower(rng: np.random.Generator, side: int) -> Layer:
    """Seeds in a golden-angle spiral, 1 to 3 px in radius, like the shell of a diatom."""
    canvas = np.zeros((side * FINE, side * FINE), np.float32)
    count = int((side / 6.2) ** 2)
    i = np.arange(count) + 0.5
    r, theta = 0.47 * side * np.sqrt(i / count), i * np.pi * (3 - np.sqrt(5)) + rng.uniform(0, 6)
    for radius, y, x in zip(1 + 2 * i / count, r * np.sin(theta), r * np.cos(theta), strict=True):
        _disc(canvas, (y + side / 2, x + side / 2), radius, 1.0)
    return _coarse(canvas)


def polygons(rng: np.random.Generator, side: int) -> Layer:
    """Overlapping convex polygons of several grey levels, 3 to 20 px across."""
    y, x = _grid(side)
    canvas = np.zeros(y.shape, np.float32)
    for _ in range(70):
        radius, corners = rng.uniform(2, 11), int(rng.integers(3, 7))
        cy, cx = rng.uniform(-0.48, 0.48, 2) * side
        turn = rng.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
        inside = np.ones(y.shape, bool)
        for angle in turn:
            inside &= (y - cy) * np.sin(angle) + (x - cx) * np.cos(angle) < radius * 0.8
        canvas[inside] = rng.choice([0.25, 0.5, 0.75, 1.0])
    return _coarse(canvas)


def dots(rng: np.random.Generator, side: int) -> Layer:
    """Scattered discs of 0.8 to 7 px radius, the larger ones hollow."""
    canvas = np.zeros((side * FINE, side * FINE), np.float32)
    for radius in np.sort(0.8 + 6.2 * rng.power(0.5, 160))[::-1]:
        centre = rng.uniform(0, side, 2)
        _disc(canvas, centre, radius, rng.uniform(0.6, 1))
        if radius > 3.5:
            _disc(canvas, centre, radius - 2, 0.15)
    return _coarse(canvas)


_MOTIFS: tuple[Draw, ...] = (writing, gratings, sunflower, polygons, dots)


def _tile(rng: np.random.Generator, shape: tuple[int, int]) -> Layer:
    """Cells of `CELL_PX` in random order, without equal neighbours along a row; (ny, nx), 0 to 1."""
    rows, columns = (-(-n // CELL_PX) for n in shape)
    canvas = np.zeros((rows * CELL_PX, columns * CELL_PX), np.float32)
    order = rng.permutation(len(_MOTIFS))
    for row in range(rows):
        for column in range(columns):
            motif = _MOTIFS[order[(2 * row + column) % len(order)]]
            y, x = row * CELL_PX, column * CELL_PX
            canvas[y : y + CELL_PX, x : x + CELL_PX] = motif(rng, CELL_PX)
    top, left = ((have - want) // 2 for have, want in zip(canvas.shape, shape, strict=True))
    return canvas[top : top + shape[0], left : left + shape[1]].copy()


def _paste_star(rng: np.random.Generator, canvas: Layer) -> Layer:
    """Put a Siemens star of 0.4 of the smaller side over the middle."""
    side = int(0.4 * min(canvas.shape)) // 2 * 2
    if side < 16:
        return canvas
    top, left = ((n - side) // 2 for n in canvas.shape)
    window = canvas[top : top + side, left : left + side]
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    disc = np.hypot(y, x) < 0.49 * side
    window[disc] = np.rot90(siemens_star(side), int(rng.integers(4)))[disc]
    return canvas


def _absorbers(rng: np.random.Generator, shape: tuple[int, int]) -> Layer:
    """Overlapping discs and rings of 6 to 30 px radius on a wire mesh; (ny, nx), 0 to 1."""
    canvas = np.zeros((shape[0] * FINE, shape[1] * FINE), np.float32)
    y, x = np.mgrid[: canvas.shape[0], : canvas.shape[1]] / FINE
    canvas[((y + 0.3 * x) % 37 < 2.5) | ((x - 0.3 * y) % 37 < 2.5)] = 0.5
    for _ in range(max(6, shape[0] * shape[1] // 3500)):
        centre, radius = rng.uniform(0, 1, 2) * shape, rng.uniform(6, 30)
        _disc(canvas, centre, radius, rng.uniform(0.3, 1))
        if rng.random() < 0.5:
            _disc(canvas, centre, 0.6 * radius, rng.uniform(0, 0.3))
    return _coarse(canvas)


def _line(rng: np.random.Generator, dot: int, width: int) -> Layer:
    """One line of random words, (7 dot, at most width)."""
    text = " ".join(_WORDS[k] for k in rng.permutation(len(_WORDS)))
    letters = [_glyph(letter) for letter in text[: width // (6 * dot) + 1]]
    line = np.concatenate(letters, axis=1)[:, : width // dot]
    return np.kron(line, np.ones((dot, dot), np.float32))


def _glyph(letter: str) -> Layer:
    """Dots of one letter and the gap after it, (7, 6)."""
    octal = _GLYPHS.get(letter, "00" * 7)
    rows = [int(octal[k : k + 2], 8) for k in range(0, 14, 2)]
    return np.array([[row >> bit & 1 for bit in (4, 3, 2, 1, 0)] + [0] for row in rows], np.float32)


def _grid(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(y, x) of each sub-pixel from the middle of a cell, pixels."""
    axis = (np.arange(side * FINE) + 0.5) / FINE - side / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y, x


def _disc(canvas: Layer, centre: tuple[float, float] | NDArray[np.float64], radius: float, value: float) -> None:
    """Set a disc of the finely sampled canvas; centre (y, x) and radius in pixels."""
    (cy, cx), r = np.asarray(centre) * FINE, radius * FINE
    top, left = max(0, int(cy - r)), max(0, int(cx - r))
    window = canvas[top : int(cy + r) + 2, left : int(cx + r) + 2]
    y, x = np.ogrid[: window.shape[0], : window.shape[1]]
    window[(y + top + 0.5 - cy) ** 2 + (x + left + 0.5 - cx) ** 2 < r**2] = value


def _coarse(fine: NDArray[np.generic]) -> Layer:
    """Average each FINE x FINE block."""
    ny, nx = fine.shape[0] // FINE, fine.shape[1] // FINE
    return np.asarray(fine.reshape(ny, FINE, nx, FINE).mean((1, 3)), np.float32)


def _smooth(rng: np.random.Generator, shape: tuple[int, int], length_px: float) -> Layer:
    """Random hills of about `length_px`, 0 to 1."""
    return _stretch(gaussian_filter(rng.standard_normal(shape), length_px, mode="wrap"))


def _stretch(layer: NDArray[np.floating]) -> Layer:
    """Scale to 0 .. 1."""
    low, high = float(layer.min()), float(layer.max())
    return ((layer - low) / max(high - low, 1e-12)).astype(np.float32)
