"""``streamptycho view``: which front end, from where, for how long."""

import time
from pathlib import Path

from streamptycho.wire.security import SecurityOptions
from streamptycho_services.errors import FailedError
from streamptycho_services.processes.interrupt import interruptible
from streamptycho_services.view import need


def view(
    where: tuple[str, str | None, SecurityOptions], directory: Path | None, every_s: float, seconds: float | None
) -> None:
    """Follow until Ctrl-C, the window is closed or `seconds` are over.

    `where` are the addresses of documents and catch-up (None: the next port), and the keys for them.

    Raises :class:`ConfigError` where a package, a screen or the directory is missing, :class:`FailedError` if nothing
    came in `seconds`.
    """
    need("view" if directory is not None else "qt")
    from streamptycho_services.view.model import ReconModel
    from streamptycho_services.view.source import DocumentSource, addresses

    source_at = addresses(*where)
    until_s = time.monotonic() + seconds if seconds is not None else float("inf")
    source = DocumentSource(ReconModel(ended_too=directory is not None), source_at)
    with interruptible() as interrupted, source:

        def ended() -> bool:
            return interrupted.is_set() or time.monotonic() >= until_s

        if directory is not None:
            from streamptycho_services.view.headless import write_pictures

            write_pictures(source, directory, every_s, ended)
        else:
            from streamptycho_services.view.qt import show_window

            show_window(source, ended)
        source.check()
    if seconds is not None and source.heard == 0 and not interrupted.is_set():
        raise FailedError(
            f"nothing came from {source_at.documents} in {seconds:g} s; is 'streamptycho run' or 'documents' on there?"
        )
