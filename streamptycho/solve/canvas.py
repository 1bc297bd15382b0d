"""The object and what is known of its coverage, on a canvas that grows when a position falls outside.

Coordinates are absolute object pixels: growing changes the canvas's origin, never where anything is. The origin stays on a
grid of `BLOCK` pixels, so that coarse grids over the canvas keep their alignment.
"""

from streamptycho.solve.backend import Array, Backend

BLOCK = 8
"""Pixels per cell of the coarse grids."""


class Canvas:
    """Object transmission and dose on a growing rectangle.

    Attributes
    ----------
    object : (ny, nx) complex64, 1 where nothing is known.
    dose : (ny, nx) float32, sum over frames of |probe|^2 / max |probe|^2.
    last : (ny, nx) complex64, the object when the momentum was last applied.
    cell_dose : (ny / BLOCK, nx / BLOCK) float32, mean dose in each cell.
    velocity : (ny / BLOCK, nx / BLOCK) complex64, smooth change per momentum interval.
    """

    def __init__(self, backend: Backend, max_pixels: int) -> None:
        self.backend = backend
        self.max_pixels = max_pixels
        self.origin = (0, 0)
        xp = backend.xp
        self.object: Array = xp.ones((0, 0), xp.complex64)
        self.last: Array = xp.ones((0, 0), xp.complex64)
        self.dose: Array = xp.zeros((0, 0), xp.float32)
        self.cell_dose: Array = xp.zeros((0, 0), xp.float32)
        self.velocity: Array = xp.zeros((0, 0), xp.complex64)

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) at present."""
        return self.object.shape  # type: ignore[no-any-return]

    def ensure(self, corner: tuple[int, int], shape: tuple[int, int]) -> bool:
        """Make room for a window; False, and nothing changed, if the canvas would exceed its limit.

        Growth is by at least a window and a quarter of the present size, so that its cost is spread over many frames.
        """
        origin, extent = [0, 0], [0, 0]
        for axis in (0, 1):
            low, high = corner[axis], corner[axis] + shape[axis]
            start, stop = self.origin[axis], self.origin[axis] + self.shape[axis]
            if not stop - start:
                start, stop = low - shape[axis] // 2, high + shape[axis] // 2
            margin = max(shape[axis], (stop - start) // 4)
            if low < start:
                start = low - margin
            if high > stop:
                stop = high + margin
            start -= start % BLOCK
            stop += -stop % BLOCK
            origin[axis], extent[axis] = start, stop - start
        new_shape = (extent[0], extent[1])
        if new_shape == self.shape:
            return True
        if new_shape[0] * new_shape[1] > self.max_pixels:
            return False
        self._regrow((origin[0], origin[1]), new_shape)
        return True

    def _regrow(self, origin: tuple[int, int], shape: tuple[int, int]) -> None:
        xp = self.backend.xp
        y, x = self.origin[0] - origin[0], self.origin[1] - origin[1]
        empty = {
            "object": xp.ones(shape, xp.complex64),
            "last": xp.ones(shape, xp.complex64),
            "dose": xp.zeros(shape, xp.float32),
            "cell_dose": xp.zeros((shape[0] // BLOCK, shape[1] // BLOCK), xp.float32),
            "velocity": xp.zeros((shape[0] // BLOCK, shape[1] // BLOCK), xp.complex64),
        }
        if self.object.size:
            for name, new in empty.items():
                old = getattr(self, name)
                scale = BLOCK if name in ("cell_dose", "velocity") else 1
                new[y // scale : y // scale + old.shape[0], x // scale : x // scale + old.shape[1]] = old
        for name, new in empty.items():
            setattr(self, name, new)
        self.origin = origin

    def add_dose(self, corners: Array, power: Array) -> None:
        """Count one exposure at each of `corners` (k, 2); `power` (ny, nx) is |probe|^2 over its maximum."""
        for y, x in corners.tolist():
            self.dose[self.window((y, x), power.shape)] += power
        box = self.box(corners, power.shape)
        self.cell_dose[self.cells(box)] = block_mean(self.dose[box])

    @staticmethod
    def cells(box: tuple[slice, slice]) -> tuple[slice, slice]:
        """A box that is aligned to the coarse grid, in cells."""
        y, x = (slice(side.start // BLOCK, side.stop // BLOCK) for side in box)
        return y, x

    def window(self, corner: tuple[int, int], shape: tuple[int, int]) -> tuple[slice, slice]:
        """Slices of the canvas arrays under a window at the absolute `corner`."""
        y, x = corner[0] - self.origin[0], corner[1] - self.origin[1]
        return slice(y, y + shape[0]), slice(x, x + shape[1])

    def box(self, corners: Array, shape: tuple[int, int], margin: int = 0) -> tuple[slice, slice]:
        """Slices, aligned to the coarse grid, around all windows at `corners` (k, 2), `margin` pixels wider."""
        slices = []
        for axis in (0, 1):
            low = int(corners[:, axis].min()) - self.origin[axis] - margin
            high = int(corners[:, axis].max()) - self.origin[axis] + shape[axis] + margin
            low = max(low - low % BLOCK, 0)
            high = min(high + -high % BLOCK, self.shape[axis])
            slices.append(slice(low, high))
        return slices[0], slices[1]


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
