"""Which data keys are y and x, as far as a run says it."""

from streamptycho.dialects.bluesky_fields import Document, names, table

_ORDER = {("y", "x"): (0, 1), ("x", "y"): (1, 0)}


def readback_of(motor: str, descriptor: Document) -> str | None:
    """The one data key that a motor's readback has, None if that is not clear."""
    hints = table(descriptor, "descriptor.hints").get(motor)
    fields = names(hints.get("fields")) if type(hints) is dict else []
    if not fields:
        fields = names(table(descriptor, "descriptor.object_keys").get(motor))
    return fields[0] if len(fields) == 1 else None


def columns_of(dimensions: object, stream: str) -> tuple[tuple[str, str] | None, tuple[str, ...]]:
    """(y, x) of ``[[[field, ...], stream], ...]``, and what is in doubt about it."""
    fields: list[str] = []
    for dimension in dimensions if isinstance(dimensions, list | tuple) else ():
        if isinstance(dimension, list | tuple) and len(dimension) == 2 and isinstance(dimension[1], str):
            fields += names(dimension[0]) if dimension[1] == stream else []
    if len(fields) != 2:
        return None, ()
    stem = 0
    while stem < min(map(len, fields)) and fields[0][stem] == fields[1][stem]:
        stem += 1
    tail = 0
    while tail < min(map(len, fields)) - stem and fields[0][-1 - tail] == fields[1][-1 - tail]:
        tail += 1
    order = _ORDER.get((fields[0][stem : len(fields[0]) - tail].lower(), fields[1][stem : len(fields[1]) - tail].lower()))
    if order is None:
        first, second = (name[:60] for name in fields)
        return None, (f"{first} and {second} are scanned, and neither is named y or x; set options.columns = 'y,x'",)
    return (fields[order[0]], fields[order[1]]), ()
