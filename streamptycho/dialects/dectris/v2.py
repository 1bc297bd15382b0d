"""Stream V2 of DECTRIS detectors, and of others that speak it (Jungfraujoch): CBOR objects ``start``, ``image`` and ``end``.

A part may hold several. The images of a series are alike, so that after the first one only what changes is read.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from streamptycho.dialects.dectris import cbor
from streamptycho.dialects.dectris.quantities import (
    DISTANCE,
    FLAT_FIELD,
    Announced,
    is_absolute,
    plain_text,
    scalars,
    since_epoch_ns,
    valid_pixels,
)
from streamptycho.dialects.dectris.series import Detector, Series
from streamptycho.dialects.dectris.typed_arrays import typed_array
from streamptycho.dialects.pixels import Layout, array, payload
from streamptycho.errors import CodecError, ConfigError, GrammarError, ProtocolError
from streamptycho.messages.checks import Scalar
from streamptycho.messages.facts import Fact, StartParts
from streamptycho.messages.payload import PIXEL_DTYPES

_SELF_DESCRIBED, _DATE, _EPOCH_TIME, _RATIONAL = 55799, 0, 1, 30
_NOT_FOR_US = ("calibration", "metadata")
_NUMBERS = ("image_id", "image_number")
_VARYING = {
    ("image_id",): True,
    ("image_number",): True,
    ("stop_time", 0): True,
    ("start_time", 0): False,
    ("real_time", 0): False,
}
_PATIENCE = 8
"""Images of a series that may differ from the one before in more than that, until it is no longer tried."""
_MAX_NAME, _MAX_TEXT = 128, 4096
_SECOND_NS = 1_000_000_000
_NOTHING = StartParts()


@dataclass(frozen=True, slots=True)
class _Hints:
    """What the start of a series says of its images."""

    key: str | None = None
    channel: str = ""
    shape: tuple[int, int] | None = None
    dtype: np.dtype | None = None
    armed_ns: int | None = None


class _Image(NamedTuple):
    key: str
    order: int | None
    number: int
    channel: str | None
    layout: Layout
    stop: int
    """End of exposure, in parts of a second."""
    base: int
    """Such parts in a second; 0 where it does not say when."""
    since_ns: int | None
    """What that counts from, ns since the Unix epoch."""
    parts: StartParts
    """What it says of a series whose start has not come."""


class _Like(NamedTuple):
    """An image that has been read, and where those like it have what differs."""

    alike: cbor.Alike
    image: _Image
    number: int
    stop: int | None
    pixels: int


class DectrisV2:
    """Stream V2: series as runs, named by their unique id or their number.

    Parameters
    ----------
    channel : which channel holds the frames, such as ``"threshold_2"``; by default the first that the sender names.
    """

    def __init__(self, channel: str = "") -> None:
        if not isinstance(channel, str):
            raise ConfigError(f"options.channel = {channel!r}: write the name of a channel as text, in quotes")
        self._wanted = channel
        self._detector = Detector("image.series")
        self._hints = _Hints()
        self._last: _Like | None = None
        self._misses = 0

    def feed(self, parts: Sequence[bytes | memoryview], now_s: float) -> Iterable[Fact]:
        """What follows from the objects in the parts of a message."""
        for part in parts:
            try:
                yield from self._part(part)
            except ProtocolError as error:
                yield error

    def tick(self, now_s: float) -> Iterable[Fact]:
        """Nothing follows from silence."""
        return ()

    def _part(self, data: bytes | memoryview) -> Iterable[Fact]:
        """All objects in a part; one that cannot be read ends it."""
        at = 0
        while at < len(data):
            like = self._last
            found = None if like is None else like.alike.match(data, at)
            if like is not None and found is not None:
                numbers, strings, at = found
                stop = 0 if like.stop is None else numbers[like.stop]
                yield from self._taken(like.image, numbers[like.number], stop, strings[like.pixels])
                continue
            if data[at : at + 2] == b'{"':
                text = "JSON, as in Stream V1; set format = 'dectris-v1', or the stream's format at the detector to cbor"
                raise CodecError("message", text)
            data = bytes(data) if len(data) <= cbor.SMALL_BYTES else data
            value, end = cbor.read(data, at)
            message = _message(value)
            if message["type"] == "image":
                yield from self._image(message, data, at, end)
            elif message["type"] == "start":
                yield from self._begin(message)
            elif message["type"] == "end":
                yield from self._detector.end(self._key(message)[0])
            at = end

    def _key(self, message: dict[str, Any]) -> tuple[str, int | None]:
        """Key and number of the series of a message, which need not repeat both."""
        unique, order = message.get("series_unique_id"), message.get("series_id")
        order = order if type(order) is int and 0 <= order < 1 << 63 else None
        current = self._detector.open
        if isinstance(unique, str) and unique:
            if len(unique) > _MAX_NAME:
                raise CodecError("series_unique_id", f"{unique[:40]!r} has more than {_MAX_NAME} characters")
            return (
                current.key if current is not None and order is not None and current.key == str(order) else unique
            ), order
        if current is not None and order in (current.order, None):
            return current.key, current.order
        return ("" if order is None else str(order)), order

    # images

    def _image(self, message: dict[str, Any], data: bytes | memoryview, begin: int, end: int) -> Iterable[Fact]:
        self._misses += self._last is not None
        self._last = None
        key = None
        try:
            key, order = self._key(message)
            image, pixels = self._read(message, key, order)
        except CodecError as error:
            return (CodecError(error.field, error.detail, scan_id=key, frames=1),)
        if self._misses < _PATIENCE:
            self._last = _like(cbor.Alike.of(data, begin, end, len(pixels), _VARYING), image, message)
        return self._taken(image, image.number, image.stop, pixels)

    def _taken(self, image: _Image, number: int, stop: int, pixels: memoryview) -> Iterable[Fact]:
        """An image, or one like it but for its number and `stop`, the numerator of the end of exposure."""
        current = self._detector.open
        try:
            frame = payload(pixels, image.layout, None if current is None else current.parts.dtype)
            stamp_ns = _stamp_ns(stop, image.base, image.since_ns)
            return self._detector.image(image.key, image.order, number, stamp_ns, frame, image.parts)
        except CodecError as error:
            return (CodecError(error.field, error.detail, scan_id=image.key, frames=1),)
        except GrammarError as error:
            return (error,)

    def _read(self, message: dict[str, Any], key: str, order: int | None) -> tuple[_Image, memoryview]:
        """An image, and its pixels as sent."""
        hints = self._hints if self._hints.key == key else _Hints()
        number = next((message[name] for name in _NUMBERS if name in message), None)
        if type(number) is not int or not 0 <= number < 1 << 63:
            raise CodecError("image.image_id", f"{number!r:.60} is not a whole number from 0 on")
        data, channel, parts = message.get("data"), None, _NOTHING
        if isinstance(data, dict):
            channel = self._wanted or hints.channel or next(iter(data), "")
            if channel not in data:
                raise CodecError("image.data", _no_channel(channel, list(data)))
            doubts = self._choice(list(data), channel)
            parts = StartParts(doubts=doubts) if doubts else _NOTHING
            data = data[channel]
        layout, pixels = typed_array(data, "image.data", hints.shape, hints.dtype)
        since = _date_ns(message.get("series_date"))
        since = hints.armed_ns if since is None else since
        stop, base = _rational(message.get("stop_time")) or (0, 0)
        return _Image(key, order, number, channel, layout, stop=stop, base=base, since_ns=since, parts=parts), pixels

    def _choice(self, channels: list[str], channel: str) -> tuple[str, ...]:
        """The doubt that another channel may be meant."""
        if self._wanted or len(channels) < 2:
            return ()
        names = ", ".join(channels)
        return (f"of the channels {names:.200} the first is used, {channel:.60}; give options.channel for another",)

    # the start

    def _begin(self, message: dict[str, Any]) -> Iterable[Fact]:
        self._last, self._misses = None, 0
        key, order = self._key(message)
        said = Announced({**message, **_translation(message.get("detector_translation"))})
        channels = message.get("channels")
        names = [name for name in channels if isinstance(name, str)] if isinstance(channels, list) else []
        channel = self._wanted or (names[0] if names else "")
        if names and channel not in names:
            yield GrammarError("start.channels", _no_channel(channel, names))
        shape = said.shape("image_size_x", "image_size_y")
        dtype = _pixel_type(message.get("image_dtype"))
        if said.is_off("flatfield_enabled"):
            said.doubts.append(FLAT_FIELD)
        distance = said.within(_DISTANCE, DISTANCE) or said.within("detector_distance", DISTANCE)
        armed_ns = _date_ns(message.get("arm_date"))
        parts = StartParts(
            wavelength_m=said.wavelength_m("incident_wavelength", "incident_energy", detector="detector_description"),
            distance_m=distance,
            pitch_m=said.pitch_m("pixel_size_x", "pixel_size_y"),
            frame_shape=shape,
            dtype=dtype,
            expected=said.count("number_of_images"),
            started_ns=armed_ns,
            beam_center_px=said.beam_center_px("beam_center_x", "beam_center_y", shape),
            metadata=_metadata(message, channel),
        )
        cutoff = said.cutoff("saturation_value")
        parts = replace(parts, doubts=(*said.doubts, *self._choice(names, channel)))
        mask = _mask(message.get("pixel_mask"), channel, shape)
        self._hints = _Hints(key, channel, shape, dtype, armed_ns)
        yield from self._detector.begin(Series(key, order, mask.over(parts), cutoff))


_DISTANCE = "detector_translation[2]"


def _message(value: Any) -> dict[str, Any]:
    """The map of a message; raises :class:`CodecError` if it is none that is known."""
    if isinstance(value, tuple) and value[0] == _SELF_DESCRIBED:
        value = value[1]
    if not isinstance(value, dict):
        raise CodecError(
            "message", f"a CBOR {type(value).__name__} is no message of Stream V2; is another format sent here?"
        )
    kind = value.get("type")
    if kind not in ("start", "image", "end", *_NOT_FOR_US):
        raise CodecError("message.type", f"{kind!r:.60} is not start, image or end")
    return value


def _like(alike: cbor.Alike | None, image: _Image, message: dict[str, Any]) -> _Like | None:
    """`image` with the places of what differs in those like it, None if there is no telling."""
    if alike is None:
        return None
    number = ("image_id",) if "image_id" in message else ("image_number",)
    pixels = [i for i, path in enumerate(alike.strings) if path[0] == "data" and image.channel in (None, *path[1:2])]
    stops = alike.names.count(("stop_time", 0))
    if len(pixels) != 1 or alike.names.count(number) != 1 or stops != (image.base > 0):
        return None
    return _Like(alike, image, alike.names.index(number), alike.names.index(("stop_time", 0)) if stops else None, pixels[0])


def _no_channel(channel: str, channels: list[str]) -> str:
    return f"has no channel {channel!r:.60}; it has {', '.join(channels):.200}: correct options.channel"


def _stamp_ns(stop: int, base: int, since_ns: int | None) -> int:
    """End of exposure, ns since the Unix epoch; 0 if not known."""
    if not base:
        return 0
    stamp_ns = stop * _SECOND_NS // base
    if not is_absolute(stamp_ns):
        stamp_ns += since_ns or 0
    return stamp_ns if is_absolute(stamp_ns) else 0


def _rational(value: Any) -> tuple[int, int] | None:
    """A time in seconds as numerator and denominator, None if it is none."""
    if isinstance(value, tuple) and value[0] == _RATIONAL:
        value = value[1]
    if isinstance(value, list) and len(value) == 2 and all(type(n) is int for n in value) and value[0] >= 0 < value[1]:
        return value[0], value[1]
    if isinstance(value, int | float) and math.isfinite(value) and 0 <= value < _SECOND_NS * 10:
        return int(value * _SECOND_NS), _SECOND_NS
    return None


def _date_ns(value: Any) -> int | None:
    """A date as text, or as seconds since the epoch, as ns since the Unix epoch."""
    tag, inner = value if isinstance(value, tuple) else (_DATE, value)
    if tag == _DATE:
        return since_epoch_ns(inner)
    seconds = _rational(inner) if tag == _EPOCH_TIME else None
    return None if seconds is None else seconds[0] * _SECOND_NS // seconds[1] or None


def _translation(vector: Any) -> dict[str, Any]:
    """Distance of the detector: its z, which some count against the beam."""
    if isinstance(vector, list) and len(vector) > 2 and isinstance(vector[2], int | float):
        return {_DISTANCE: abs(vector[2])}
    return {}


def _pixel_type(name: Any) -> np.dtype | None:
    name = name.removesuffix("le").removesuffix("be") if isinstance(name, str) else ""
    return np.dtype(name).newbyteorder("<") if name in PIXEL_DTYPES else None


def _metadata(message: dict[str, Any], channel: str) -> dict[str, Scalar]:
    kept = scalars(message, frozenset({"type", "user_data"}))
    thresholds = message.get("threshold_energy")
    if isinstance(thresholds, dict):
        kept |= scalars({"threshold_energy": thresholds.get(channel)})
    user = message.get("user_data")
    if isinstance(user, str):
        try:
            user = json.loads(user)
        except (ValueError, RecursionError):
            kept["user_data"] = plain_text(user, _MAX_TEXT)
    return kept | scalars(user if isinstance(user, dict) else {"user_data": user})


def _mask(masks: Any, channel: str, shape: tuple[int, int] | None) -> StartParts:
    """The pixel mask of a channel, left out with a doubt if it cannot be one."""
    if isinstance(masks, dict):
        masks = masks.get(channel, next(iter(masks.values())) if len(masks) == 1 else None)
    if masks is None:
        return StartParts()
    try:
        layout, blob = typed_array(masks, "pixel_mask", shape, np.dtype("<u4"))
        bits = array(blob, layout)
    except CodecError as error:
        return StartParts(doubts=(f"the pixel mask cannot be read, and is not used: {error.detail}",))
    if bits.dtype.kind != "u":
        return StartParts(doubts=(f"a pixel mask of {bits.dtype.name} has no bits, and is not used",))
    valid, summary, doubts = valid_pixels(bits, shape)
    return StartParts(valid=valid, metadata={"pixel_mask": summary} if summary else {}, doubts=doubts)
