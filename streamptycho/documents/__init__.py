"""Scans as runs of bluesky's event model. No socket, thread or clock of its own; ``docs/documents.md`` has every document.

`wire` documents to bytes and back; `keys` what each stream holds; `unknown` what stands for a figure that is not known;
`pictures` object and probe, `frames` what frames say by themselves as arrays of bounded size; `run` one scan as one run;
`composer` all scans, from what the services publish; `history` what late subscribers receive; `follower` how they read it.
"""

from streamptycho.documents.composer import Composer
from streamptycho.documents.follower import Follower
from streamptycho.documents.history import History, read_answer
from streamptycho.documents.wire import PREFIX, Document, dumps, frame, loads, unframe

__all__ = ["PREFIX", "Composer", "Document", "Follower", "History", "dumps", "frame", "loads", "read_answer", "unframe"]
