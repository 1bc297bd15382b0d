"""The object and its coverage, on a canvas that grows when a position falls outside.

Coordinates are absolute object pixels: growing changes the canvas's origin, never where anything is. The origin stays on a
grid of `BLOCK` pixels, so that coarse grids over the canvas keep their alignment.
"""

from typing import TypeAlias

from streamptycho.solve.devices.backend import Array, Backend

BLOCK = 8
"""Pixels per cell of the coarse grids."""

KNOWN_DOSE = 0.1
"""Dose from which a pixel counts as known."""

Box: TypeAlias = tuple[slice, slice]
"""A rectangle of the canvas."""


class Canvas:
    """Object transmission and dose on a growing rectangle.

    Attributes
    ----------
    object : (ny, nx) complex64, 1 where nothing is known.
    dose : (ny, nx) float32, sum over frames of |probe|^2 / max |probe|^2.
    cell_object : (ny / BLOCK, nx / BLOCK) complex64, mean object in each cell when its smooth part was last advanced.
    cell_dose : (ny / BLOCK, nx / BLOCK) float32, mean dose in each cell.
    velocity : (ny / BLOCK, nx / BLOCK) complex64, smooth change from one such time to the next.

    What is computed on it does not depend on how much larger it is than the windows: around each window there is always
    room for its surroundings.
    """

    def __init__(self, backend: Backend, max_pixels: int) -> None:
        self.backend = backend
        self.max_pixels = max_pixels
        self.origin = (0, 0)
        self._used: tuple[int, int, int, int] | None = None
        xp = backend.xp
        self.object: Array = xp.ones((0, 0), xp.complex64)
        self.cell_object: Array = xp.ones((0, 0), xp.complex64)
        self.dose: Array = xp.zeros((0, 0), xp.float32)
        self.cell_dose: Array = xp.zeros((0, 0), xp.float32)
        self.velocity: Array = xp.zeros((0, 0), xp.complex64)

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) at present."""
        return self.object.shape  # type: ignore[no-any-return]

    @property
    def area(self) -> int:
        """Pixels of the rectangle around all windows so far."""
        if self._used is None:
            return 0
        top, left, bottom, right = self._used
        return (bottom - top) * (right - left)

    def ensure(self, corner: tuple[int, int], shape: tuple[int, int]) -> bool:
        """Make room for a window; False, and nothing changed, if the canvas would exceed its limit.

        Growth is by at least a window and a quarter of the present size, so that its cost is spread over many frames.
        """
        origin, extent = [0, 0], [0, 0]
        around = surroundings(shape)
        for axis in (0, 1):
            low, high = corner[axis] - around, corner[axis] + shape[axis] + around
            start, stop = self.origin[axis], self.origin[axis] + self.shape[axis]
            if not stop - start:
                start, stop = low, high
            margin = max(shape[axis], (stop - start) // 4)
            if low < start:
                start = low - margin
            if high > stop:
                stop = high + margin
            start -= start % BLOCK
            stop += -stop % BLOCK
            origin[axis], extent[axis] = start, stop - start
        new_shape = (extent[0], extent[1])
        if new_shape != self.shape:
            if new_shape[0] * new_shape[1] > self.max_pixels:
                return False
            self._regrow((origin[0], origin[1]), new_shape)
        window = (*corner, corner[0] + shape[0], corner[1] + shape[1])
        top, left, bottom, right = self._used or window
        self._used = (min(top, window[0]), min(left, window[1]), max(bottom, window[2]), max(right, window[3]))
        return True

    def reached(self, dose: float) -> Box | None:
        """Slices, aligned to the coarse grid, around all pixels of at least this `dose`; None if there are none."""
        known = self.cell_dose * (BLOCK * BLOCK) >= dose  # true of every cell with such a pixel
        ys, xs = (self.backend.to_host(known.any(axis)).nonzero()[0] * BLOCK for axis in (1, 0))
        if not len(ys):
            return None
        return slice(int(ys[0]), int(ys[-1]) + BLOCK), slice(int(xs[0]), int(xs[-1]) + BLOCK)

    def _regrow(self, origin: tuple[int, int], shape: tuple[int, int]) -> None:
        y, x = self.origin[0] - origin[0], self.origin[1] - origin[1]
        for name in ("object", "dose", "cell_object", "cell_dose", "velocity"):  # one by one: only one is there twice
            old = getattr(self, name)
            scale = 1 if name in ("object", "dose") else BLOCK
            make = self.backend.xp.ones if name in ("object", "cell_object") else self.backend.xp.zeros
            new = make((shape[0] // scale, shape[1] // scale), old.dtype)
            if old.size:
                new[y // scale : y // scale + old.shape[0], x // scale : x // scale + old.shape[1]] = old
            setattr(self, name, new)
        self.origin = origin

    def rebase(self) -> None:
        """Count smooth changes from the present object on."""
        self.cell_object[...] = block_mean(self.object)

    def add_dose(self, corners: Array, probe: Array) -> None:
        """Count one exposure to `probe` (modes, ny, nx) at each of `corners` (k, 2)."""
        power = (probe.real**2 + probe.imag**2).sum(0)
        power /= power.max()
        for y, x in corners.tolist():
            self.dose[self.window((y, x), power.shape)] += power
        box = self.box(corners, power.shape)
        self.cell_dose[self.cells(box)] = block_mean(self.dose[box])

    @staticmethod
    def cells(box: Box) -> Box:
        """A box that is aligned to the coarse grid, in cells."""
        y, x = (slice(side.start // BLOCK, side.stop // BLOCK) for side in box)
        return y, x

    def window(self, corner: tuple[int, int], shape: tuple[int, int]) -> Box:
        """Slices of the canvas arrays under a window at the absolute `corner`."""
        y, x = corner[0] - self.origin[0], corner[1] - self.origin[1]
        return slice(y, y + shape[0]), slice(x, x + shape[1])

    def box(self, corners: Array, shape: tuple[int, int], margin: int = 0) -> Box:
        """Slices, aligned to the coarse grid, around all windows at `corners` (k, 2), `margin` pixels wider."""
        slices = []
        for axis in (0, 1):
            low = int(corners[:, axis].min()) - self.origin[axis] - margin
            high = int(corners[:, axis].max()) - self.origin[axis] + shape[axis] + margin
            low = max(low - low % BLOCK, 0)
            high = min(high + -high % BLOCK, self.shape[axis])
            slices.append(slice(low, high))
        return slices[0], slices[1]


def surroundings(shape: tuple[int, int]) -> int:
    """Pixels around a window of `shape` that its warm fill takes in: three eighths of it, in whole cells."""
    return int(3 * max(shape) / 8 / BLOCK) * BLOCK + BLOCK


def block_mean(array: Array) -> Array:
    """Mean over BLOCK x BLOCK cells; both sides of `array` are multiples of BLOCK."""
    ny, nx = array.shape
    return array.reshape(ny // BLOCK, BLOCK, nx // BLOCK, BLOCK).mean((1, 3))


def bilinear(coarse: Array, backend: Backend) -> Array:
    """Interpolate cell centres of a coarse grid to pixels, constant beyond the outermost centres."""
    xp = backend.xp
    for axis in (0, 1):
        n = coarse.shape[axis]
        at = (xp.arange(n * BLOCK, dtype=xp.float32) + 0.5) / BLOCK - 0.5
        low = xp.clip(xp.floor(at), 0, n - 1).astype(xp.int32)
        high = xp.minimum(low + 1, n - 1)
        fraction = xp.clip(at - low, 0, 1).astype(xp.float32)
        shape = (-1, 1) if axis == 0 else (1, -1)
        fraction = fraction.reshape(shape)
        coarse = coarse.take(low, axis) * (1 - fraction) + coarse.take(high, axis) * fraction
    return coarse
