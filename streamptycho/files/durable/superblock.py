"""The first 48 bytes of an HDF5 file of our kind (superblock version 3): whether a writer has it open, and where it ends.

While a file grows HDF5 leaves the end in there as it was at the beginning, and refuses later to read beyond it. So the end
is kept ahead of what is written, by :class:`End`: whenever the writer dies, everything it wrote lies before that end, and
clearing the flags, as ``h5clear -s`` does, is enough to open the file.
"""

import os
import struct
from dataclasses import dataclass, replace

import h5py

from streamptycho.errors import FormatError

_LAYOUT = struct.Struct("<8sBBBBQQQQ")
_SUM = struct.Struct("<I")
_SIZE = _LAYOUT.size + _SUM.size
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_VERSION, _OFFSET_BYTES = 3, 8
_MARGIN_BYTES = 2 << 20
"""Room for what HDF5 writes beside the data: its largest single piece, of an index of 10 million rows, is 256 KiB."""
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Superblock:
    """What it says. Raises FormatError where `raw` is none of version 3."""

    raw: bytes
    flags: int
    """0 if no writer has the file open, or none that died."""
    end: int
    """Address behind the last byte that HDF5 reads."""

    @classmethod
    def read(cls, descriptor: int, name: str) -> "Superblock":
        """That of an open file; `name` is for the error."""
        raw = os.pread(descriptor, _SIZE, 0)
        if len(raw) < _SIZE:
            raise FormatError(f"{name}: {len(raw)} bytes are no HDF5 file; nothing can be recovered from it")
        signature, version, offsets, lengths, flags, base, _, end, _ = _LAYOUT.unpack_from(raw)
        if (signature, version, offsets, lengths, base) != (_SIGNATURE, _VERSION, _OFFSET_BYTES, _OFFSET_BYTES, 0):
            raise FormatError(f"{name}: no HDF5 file as this program writes it (superblock version 3)")
        return cls(raw, flags, end)

    def write(self, descriptor: int) -> None:
        """Put it into an open file. One write of 48 bytes: a process that is killed has done it or not."""
        fields = list(_LAYOUT.unpack_from(self.raw))
        fields[4], fields[7] = self.flags, self.end
        body = _LAYOUT.pack(*fields)
        os.pwrite(descriptor, body + _SUM.pack(lookup3(body)), 0)


class End:
    """The end of a file that HDF5 is writing, kept ahead of it by a hole that takes no room on the disk."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._descriptor: int = file.id.get_vfd_handle()
        self._end = 0

    def reserve(self, size: int) -> None:
        """Before `size` bytes of data are written: make sure that they will lie before the end."""
        needed = self._file.id.get_filesize() + size + _MARGIN_BYTES
        if needed > self._end:
            self._end = needed + _MARGIN_BYTES
        block = Superblock.read(self._descriptor, self._file.filename)
        if block.end != self._end:
            if os.fstat(self._descriptor).st_size < self._end:
                os.ftruncate(self._descriptor, self._end)
            replace(block, end=self._end).write(self._descriptor)

    def close(self) -> None:
        """Close the file, and let it end with its last byte again."""
        name, descriptor = self._file.filename, os.dup(self._descriptor)
        try:
            end = self._file.id.get_filesize()
            replace(Superblock.read(descriptor, name), end=end).write(descriptor)
            os.ftruncate(descriptor, end)
            self._file.close()
            # HDF5 may have given back what it had reserved
            os.ftruncate(descriptor, Superblock.read(descriptor, name).end)
        finally:
            os.close(descriptor)


def lookup3(data: bytes) -> int:
    """Bob Jenkins' hash of that name with initial value 0, which HDF5 uses as checksum; `data` not empty."""
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    words = struct.unpack(f"<{-(-len(data) // 12) * 3}I", data.ljust(-(-len(data) // 12) * 12, b"\0"))
    for i in range(0, len(words) - 3, 3):
        a, b, c = (a + words[i]) & _MASK, (b + words[i + 1]) & _MASK, (c + words[i + 2]) & _MASK
        a, c = ((a - c) & _MASK) ^ _turned(c, 4), (c + b) & _MASK
        b, a = ((b - a) & _MASK) ^ _turned(a, 6), (a + c) & _MASK
        c, b = ((c - b) & _MASK) ^ _turned(b, 8), (b + a) & _MASK
        a, c = ((a - c) & _MASK) ^ _turned(c, 16), (c + b) & _MASK
        b, a = ((b - a) & _MASK) ^ _turned(a, 19), (a + c) & _MASK
        c, b = ((c - b) & _MASK) ^ _turned(b, 4), (b + a) & _MASK
    a, b, c = ((x + y) & _MASK for x, y in zip((a, b, c), words[-3:], strict=True))
    c = ((c ^ b) - _turned(b, 14)) & _MASK
    a = ((a ^ c) - _turned(c, 11)) & _MASK
    b = ((b ^ a) - _turned(a, 25)) & _MASK
    c = ((c ^ b) - _turned(b, 16)) & _MASK
    a = ((a ^ c) - _turned(c, 4)) & _MASK
    b = ((b ^ a) - _turned(a, 14)) & _MASK
    return int(((c ^ b) - _turned(b, 24)) & _MASK)


def _turned(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (32 - bits))) & _MASK
