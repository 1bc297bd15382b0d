"""What a detector's file says counts over what the documents that name it say, which come by the same stream."""

from dataclasses import replace

from streamptycho.messages.facts import Began, Learned, StartParts

_COMPARED = ("wavelength_m", "distance_m", "pitch_m", "beam_center_px")


class Precedence:
    """Of the runs that are open."""

    def __init__(self) -> None:
        self._files: dict[str, StartParts] = {}
        self._documents: dict[str, StartParts] = {}

    def of_file(self, fact: Learned) -> Learned:
        """What a file says of a run, with a doubt where the documents have said something else."""
        parts = self._files[fact.run] = fact.parts.over(self._files.get(fact.run, StartParts()))
        return replace(fact, parts=_doubted(parts, self._documents.get(fact.run)))

    def of_documents(self, fact: Began | Learned) -> Began | Learned:
        """The same fact, with what a file has said of the run in the place of what it says."""
        if isinstance(fact, Began):
            self._files.pop(fact.run, None)
            self._documents.pop(fact.run, None)
        self._documents[fact.run] = fact.parts.over(self._documents.get(fact.run, StartParts()))
        known = self._files.get(fact.run)
        return fact if known is None else replace(fact, parts=_doubted(known, fact.parts).over(fact.parts))

    def forget(self, run: str) -> None:
        """A run is over."""
        self._files.pop(run, None)
        self._documents.pop(run, None)


def _doubted(file: StartParts, documents: StartParts | None) -> StartParts:
    doubts = tuple(
        f"{name}: the file says {mine}, which counts, and the documents say {theirs}: correct one, or give it in [scan]"
        for name in _COMPARED
        if (mine := getattr(file, name)) is not None
        and (theirs := getattr(documents, name, None)) is not None
        and not _alike(mine, theirs)
    )
    return replace(file, doubts=(*file.doubts, *doubts))


def _alike(mine: float | tuple[float, float], theirs: float | tuple[float, float]) -> bool:
    ours, others = (value if isinstance(value, tuple) else (value,) for value in (mine, theirs))
    return all(abs(a - b) <= 1e-3 * max(abs(a), abs(b)) for a, b in zip(ours, others, strict=True))
