"""All services on this machine, watched: what ``run`` and ``demo`` have in common."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from streamptycho.config import Config
from streamptycho.transport import new_context
from streamptycho_services.dashboard.process import PageProcess
from streamptycho_services.dashboard.server import PageOptions
from streamptycho_services.interrupt import interruptible
from streamptycho_services.local import LocalServices
from streamptycho_services.progress import Progress
from streamptycho_services.watch import Watcher


class ServiceDiedError(RuntimeError):
    """A service ended by itself."""


@dataclass(frozen=True, slots=True)
class Session:
    """Running services and what they say."""

    services: LocalServices
    watcher: Watcher
    progress: Progress
    interrupted: threading.Event
    """Set by the first Ctrl-C; the second one stops at once."""
    page: PageProcess | None = None

    def look(self, timeout_s: float = 0.1) -> None:
        """Take in and show what the services say; raises :class:`ServiceDiedError` if one of them has died."""
        self.watcher.poll(timeout_s)
        self.progress.show(self.watcher)
        dead = self.services.failed()
        if self.page is not None:
            self.page.look()
        if dead is not None:
            raise ServiceDiedError(f"service {dead} ended unexpectedly; its messages are above")


@contextmanager
def local_session(config: Config, page: PageOptions | None, *, as_json: bool) -> Iterator[Session]:
    """Start the services, and the live page if there are options for it.

    At the end the services finish in order, with progress until the last has stopped; then the page ends.
    """
    services = LocalServices(config, json_logs=as_json)
    with (
        interruptible(on_second=services.kill) as interrupted,
        nullcontext() if page is None else PageProcess(config, page, json_logs=as_json) as shown,
        new_context() as context,
        Watcher(context, config.services) as watcher,
        services,
        Progress(as_json=as_json) as progress,
    ):
        yield Session(services, watcher, progress, interrupted, shown)

        def waiting() -> None:
            watcher.poll(0)
            progress.show(watcher)

        services.finish(waiting)
        watcher.poll(0.2)
        progress.show(watcher, force=True)
