"""Pictures as JPEG, for viewers far away: fewer bytes, and what is not there does not become a value.

A message has the header of the raw picture with ``jpeg``, the bytes of the JPEG that follows. In it, pixels that are no
measure are filled: 0, and in a pattern 255. Behind it comes a PNG, without loss, of these values, and :data:`MEASURED`
elsewhere.
"""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from streamptycho_services.dashboard.images import MASKED, SATURATED, pack, unpack

COMPRESSED = ("phase", "amplitude", "pattern")
"""Items that can travel as JPEG; the others are small, or colours would be wrong."""
QUALITY = 85
MEASURED = 128
"""In the PNG: the value is in the JPEG."""


def as_jpeg(message: bytes) -> bytes:
    """The message of a picture, uint8 (ny, nx), as JPEG."""
    header, values = unpack(message)
    odd = values == MASKED
    if header["item"] == "pattern":
        odd |= values == SATURATED
    fill = MEASURED if odd.all() else round(float(values.mean(where=~odd)))  # a hard edge would ring
    jpeg = encoded(Image.fromarray(np.where(odd, np.uint8(fill), values)), "JPEG", quality=QUALITY)
    png = encoded(Image.fromarray(np.where(odd, values, np.uint8(MEASURED))), "PNG", compress_level=1)
    return pack(header | {"jpeg": len(jpeg)}, np.frombuffer(jpeg + png, np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a file of this kind."""
    file = BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()
