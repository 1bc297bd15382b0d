"""Stream V1 of DECTRIS detectors (EIGER, PILATUS; SIMPLON ``stream`` with format ``legacy``): JSON and binary parts.

Parts are read one after the other and known by their ``htype``, whatever messages they come in: senders split and join them.
A start is told when the first part behind it has come, or after a moment of silence, since its appendix is not announced; an
image when its ``dconfig`` has come, which not all senders send.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from streamptycho.dialects.dectris.quantities import (
    DISTANCE,
    FLAT_FIELD,
    MAX_COUNT,
    Announced,
    is_absolute,
    plain_text,
    scalars,
    since_epoch_ns,
    valid_pixels,
)
from streamptycho.dialects.dectris.series import Detector, Series
from streamptycho.dialects.pixels import Codec, Layout, array, payload
from streamptycho.errors import CodecError, GrammarError, ProtocolError
from streamptycho.messages.facts import Fact, StartParts
from streamptycho.messages.payload import PIXEL_DTYPES, Payload

MAX_JSON_BYTES = 1 << 20
"""Longest part that is read as JSON."""
SILENCE_S = 0.3
"""Time without a message after which nothing more is expected to belong to a start, or to an image."""
_MAX_APPENDIX = 4096
_TYPES = frozenset((*PIXEL_DTYPES, "int8", "uint64", "int64", "float64"))
_DECODER = json.JSONDecoder()
_BRACE = ord("{")
_DEPTHS: dict[int | None, np.dtype] = {bits: np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32)}
_ENCODING = re.compile("(?:raw|(?:(?:bs(8|16|32|64)-)?(lz4))?([<>]))")


@dataclass(slots=True)
class _Start:
    """A start whose parts are still coming."""

    key: str
    order: int
    parts: StartParts
    cutoff: int | None = None


_Image: TypeAlias = tuple[str, int, int]
"""Key and number of its series, and its own number."""


class DectrisV1:
    """Stream V1: series as runs, named by their number; images by theirs, which counts over all triggers of a series."""

    def __init__(self) -> None:
        self._detector = Detector("dimage.series")
        self._heard_s = 0.0
        self._facts: list[Fact] = []
        """What has followed from the parts so far."""
        self._start: _Start | None = None
        self._wants_config = False
        """Whether the configuration is the next part that has no name."""
        self._image: _Image | None = None
        """An image whose pixels have not come."""
        self._refused = False
        """Whether the header of an image was refused, and counted: its pixels are left out without a word."""
        self._layout: Layout | None = None
        """How they are to be read."""
        self._held: tuple[_Image, Payload] | None = None
        """An image whose times have not come."""
        self._blob: Callable[[memoryview], None] | None = None
        """What is done with the next part, which is binary."""
        self._appendix: str | None = None
        """Key of the series whose appendix may follow; empty for that of an image."""
        takers = {
            "dheader": self._take_start,
            "dflatfield": self._take_table,
            "flatfield": self._take_table,
            "dpixelmask": self._take_mask,
            "pixelmask": self._take_mask,
            "dcountrate_table": self._take_table,
            "countrate_table": self._take_table,
            "dimage": self._take_image,
            "dimage_d": self._take_layout,
            "dconfig": self._take_times,
            "dseries_end": self._take_end,
        }
        self._takers: dict[Any, Callable[[dict[str, Any]], None]] = {f"{name}-1.0": take for name, take in takers.items()}

    def feed(self, parts: Sequence[bytes | memoryview], now_s: float) -> Iterable[Fact]:
        """What follows from the parts of a message."""
        self._heard_s = now_s
        for part in parts:
            try:
                self._take(part if type(part) is memoryview else memoryview(part))
            except ProtocolError as error:
                self._facts.append(error)
        return self._told()

    def tick(self, now_s: float) -> Iterable[Fact]:
        """A start or an image that is complete, since nothing has followed."""
        if now_s - self._heard_s >= SILENCE_S:
            self._release()
        return self._told()

    def _told(self) -> Iterable[Fact]:
        if not self._facts:
            return ()
        facts, self._facts = self._facts, []
        return facts

    def _take(self, part: memoryview) -> None:
        blob, self._blob = self._blob, None
        if blob is not None and not _may_be_header(part):
            blob(part)
            return
        header = _json(part)
        htype = None if header is None else header.get("htype")
        take = self._takers.get(htype) if type(htype) is str else None
        if take is not None and header is not None:
            if blob is not None:
                self._lose("has no pixels" if self._image else "has a table without data")
            take(header)
        elif blob is not None:
            blob(part)
        elif htype is not None:
            raise CodecError("htype", f"{htype!r:.60} is not known; this is DECTRIS Stream V1")
        else:
            self._take_other(part, header)

    def _release(self, stamp_ns: int = 0) -> None:
        """Tell what is held back, now that nothing more of it is to come."""
        if self._start is not None:
            start, self._start = self._start, None
            self._facts += self._detector.begin(Series(start.key, start.order, start.parts, start.cutoff))
        if self._held is not None:
            (image, pixels), self._held = self._held, None
            self._facts += self._detector.image(*image, stamp_ns, pixels)

    def _settle(self) -> None:
        """Tell what was still open before a new header."""
        if self._image is not None:
            self._lose("has no pixels")
        try:
            self._release()
        except GrammarError as error:
            self._facts.append(error)

    def _lose(self, why: str) -> None:
        """Tell that something is missing of an image, or of a start."""
        image, self._image = self._image, None
        key = None if image is None else image[0]
        self._facts.append(CodecError("dimage" if image else "dheader", why, scan_id=key, frames=1 if image else 0))

    # the parts of a start

    def _take_start(self, header: dict[str, Any]) -> None:
        self._settle()
        order = _integer(header, "dheader.series", "series")
        self._start = _Start(str(order), order, StartParts())
        self._wants_config = header.get("header_detail") != "none"
        self._appendix = self._start.key

    def _learn(self, parts: StartParts, cutoff: int | None = None) -> None:
        """Add to the start that is still coming, else to the open series."""
        if self._start is None:
            key = "" if self._detector.open is None else self._detector.open.key
            self._facts += self._detector.learn(key, parts, cutoff)
            return
        self._start.parts = parts.over(self._start.parts)
        self._start.cutoff = cutoff or self._start.cutoff

    def _take_mask(self, header: dict[str, Any]) -> None:
        def take(blob: memoryview) -> None:
            current = self._start or self._detector.open
            self._learn(_mask(header, blob, None if current is None else current.parts.frame_shape))

        self._blob = take

    def _take_table(self, header: dict[str, Any]) -> None:
        """Flat field and count-rate table: the detector applies them itself."""
        self._blob = _skip

    def _take_other(self, part: memoryview, table: dict[str, Any] | None) -> None:
        """The configuration, an appendix, or something else."""
        if not len(part):
            return
        key, self._appendix = self._appendix, None
        if self._wants_config:
            self._wants_config, self._appendix = False, key
            if table is None:
                raise CodecError("dheader", f"a configuration of {len(part)} bytes is not a JSON object; it is not used")
            self._learn(*_announced(table))
            return
        if key is None:
            raise CodecError("message", f"{bytes(part[:40])!r} is no part of Stream V1; is another format sent here?")
        if key:
            text = plain_text(bytes(part[:_MAX_APPENDIX]).decode(errors="replace"), _MAX_APPENDIX)
            self._learn(StartParts(metadata=scalars(table) if table else {"header_appendix": text}))

    # the parts of an image

    def _take_image(self, header: dict[str, Any]) -> None:
        if self._image or self._held or self._start:
            self._settle()
        self._appendix, self._wants_config, self._refused = None, False, True
        order = _integer(header, "dimage.series", "series", frames=1)
        self._image = (str(order), order, _integer(header, "dimage.frame", "frame", frames=1))
        self._refused = False

    def _take_layout(self, header: dict[str, Any]) -> None:
        self._blob = _skip
        image, self._image = self._image, None
        if image is None:
            refused, self._refused = self._refused, False
            if not refused:
                raise CodecError("dimage_d", "pixels without the header of an image before them", frames=1)
            return
        try:
            self._layout = _layout(header)
        except CodecError as error:
            raise _of(image, error) from error
        self._image, self._blob = image, self._take_pixels

    def _take_pixels(self, blob: memoryview) -> None:
        image, layout, current = self._image, self._layout, self._detector.open
        self._image, self._appendix = None, ""
        if image is not None and layout is not None:
            try:
                self._held = image, payload(blob, layout, None if current is None else current.parts.dtype)
            except CodecError as error:
                raise _of(image, error) from error

    def _take_times(self, header: dict[str, Any]) -> None:
        stop = header.get("stop_time")
        self._release(stop if type(stop) is int and is_absolute(stop) else 0)

    def _take_end(self, header: dict[str, Any]) -> None:
        self._settle()
        self._appendix, self._wants_config = None, False
        self._facts += self._detector.end(str(_integer(header, "dseries_end.series", "series")))


def _skip(blob: memoryview) -> None:
    """Leave a part out."""


def _of(image: _Image, error: CodecError) -> CodecError:
    """The same error, counted where it belongs."""
    return CodecError(error.field, error.detail, scan_id=image[0], frames=1)


def _may_be_header(part: memoryview) -> bool:
    """Whether a part in the place of a binary one is worth reading as JSON."""
    return len(part) <= MAX_JSON_BYTES and len(part) > 0 and part[0] == _BRACE and b'"htype"' in bytes(part)


def _json(part: memoryview) -> dict[str, Any] | None:
    """The JSON object in a part, None if it is none."""
    if len(part) > MAX_JSON_BYTES:
        return None
    try:
        text = str(part, "utf-8").strip()
        header, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) and end == len(text) else None


def _integer(header: dict[str, Any], field: str, key: str, frames: int = 0) -> int:
    value = header.get(key)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise CodecError(field, f"{value!r:.60} is not a whole number from 0 on", frames=frames)
    return value


def _layout(header: dict[str, Any]) -> Layout:
    shape, encoding, name = header.get("shape"), header.get("encoding"), header.get("type")
    if not (type(shape) is list and len(shape) == 2 and type(shape[0]) is type(shape[1]) is int):
        raise CodecError("dimage_d.shape", f"{shape!r:.60} is not width and height")
    return _layout_of(str(encoding)[:40], str(name)[:40], (shape[1], shape[0]))


@lru_cache(maxsize=64)
def _layout_of(encoding: str, name: str, shape: tuple[int, int]) -> Layout:
    if name not in _TYPES:
        raise CodecError("dimage_d.type", f"{name!r} is not one of {', '.join(sorted(_TYPES))}")
    match = _ENCODING.fullmatch(encoding)
    if match is None:
        raise CodecError("dimage_d.encoding", f"{encoding!r} is not <, lz4<, bs8-lz4<, bs16-lz4< or bs32-lz4<")
    bits, lz4, order = match.groups()
    dtype = np.dtype(name).newbyteorder(">" if order == ">" else "<")
    if bits is None:
        return Layout(shape, dtype, Codec.LZ4 if lz4 else Codec.RAW)
    if int(bits) != 8 * dtype.itemsize:
        raise CodecError("dimage_d.encoding", f"{encoding!r} and type {name!r} contradict each other; correct the sender")
    return Layout(shape, dtype, Codec.BSLZ4)


def _announced(config: dict[str, Any]) -> tuple[StartParts, int | None]:
    """What the configuration of the detector says of a series, and the counts from which it says that pixels saturate."""
    said = Announced(config)
    shape = said.shape("x_pixels_in_detector", "y_pixels_in_detector")
    if said.is_off("flatfield_correction_applied"):
        said.doubts.append(FLAT_FIELD)
    triggers = said.count("ntrigger") or 1
    one_each = config.get("trigger_mode") in ("inte", "exte")  # one image for each trigger, whatever nimages says
    expected = triggers if one_each else triggers * (said.count("nimages") or 0)
    parts = StartParts(
        wavelength_m=said.wavelength_m("wavelength", "photon_energy", "incident_energy", detector="description"),
        distance_m=said.within("detector_distance", DISTANCE),
        pitch_m=said.pitch_m("x_pixel_size", "y_pixel_size"),
        frame_shape=shape,
        dtype=_DEPTHS.get(said.count("bit_depth_image")),
        expected=expected if 0 < expected < MAX_COUNT else None,
        started_ns=since_epoch_ns(config.get("data_collection_date")),
        beam_center_px=said.beam_center_px("beam_center_x", "beam_center_y", shape),
        metadata=scalars(config),
    )
    cutoff = said.cutoff("countrate_correction_count_cutoff")
    return replace(parts, doubts=tuple(said.doubts)), cutoff


def _mask(header: dict[str, Any], blob: memoryview, shape: tuple[int, int] | None) -> StartParts:
    """A pixel mask, left out with a doubt if it cannot be one."""
    try:
        bits = array(blob, _layout({**header, "encoding": "<"}))
    except CodecError as error:
        return StartParts(doubts=(f"the pixel mask cannot be read, and is not used: {error.detail}",))
    if bits.dtype.kind != "u":
        return StartParts(doubts=(f"a pixel mask of {bits.dtype.name} has no bits, and is not used",))
    valid, summary, doubts = valid_pixels(bits, shape)
    return StartParts(valid=valid, metadata={"pixel_mask": summary} if summary else {}, doubts=doubts)
