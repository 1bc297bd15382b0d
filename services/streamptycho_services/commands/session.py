"""All services on this machine with progress, for ``run`` and ``demo``."""

import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace

from streamptycho.config import Config
from streamptycho.wire.sockets import new_context
from streamptycho_services.commands.progress import Progress
from streamptycho_services.dashboard.server import PageOptions, address_of, open_page, page_work
from streamptycho_services.documents.service import documents_work
from streamptycho_services.processes.folder import Folder, say_what_is_heard, with_ipc
from streamptycho_services.processes.host import give_up_streams
from streamptycho_services.processes.interrupt import interruptible
from streamptycho_services.processes.logs import Logs
from streamptycho_services.processes.notify import Notifier
from streamptycho_services.processes.preflight import addresses, check
from streamptycho_services.processes.services import SERVICES
from streamptycho_services.processes.started import Work
from streamptycho_services.processes.supervisor import Supervisor
from streamptycho_services.processes.watch import Watcher

log = logging.getLogger(__name__)

ORPHANED_S = {"receive": 0.0, "reconstruct": 0.3, "write": 5.0}
"""If this process is gone: how long a service waits before it ends, so that those upstream can do so first."""
RECORDING = ("write", "receive")
"""What must run before a frame can be recorded."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What runs beside the services."""

    page: PageOptions | None = None
    """The live page."""
    documents: bool = False
    """The documents of bluesky."""
    metrics: tuple[str, int] | None = None
    """Host and port of health and metrics, for who has no page."""


@dataclass(frozen=True, slots=True)
class Session:
    """Running services and what they publish."""

    services: Supervisor
    watcher: Watcher
    progress: Progress
    interrupted: threading.Event
    """Set by the first signal; a second one stops at once."""
    notifier: Notifier

    def look(self, timeout_s: float = 0.1) -> None:
        """Take in and show what the services publish; start again what has died.

        Raises :class:`~streamptycho.errors.ConfigError` if a service refuses the configuration before the first scan.
        """
        give_up_streams()
        self.watcher.poll(timeout_s)
        self.progress.show(self.watcher)
        self.services.look(serving=bool(self.watcher.scans))
        if self.notifier.ready or self.services.beating(*RECORDING):
            self.notifier.beat()


@contextmanager
def local_session(config: Config, folder: Folder, beside: Beside, *, as_json: bool) -> Iterator[Session]:
    """Start the services, their sockets in `folder`, and what else is wanted.

    At the end the services finish in order, with progress until the last has stopped; then page and documents end. Raises
    :class:`~streamptycho.errors.ConfigError` for what can be known not to work.
    """
    check(config, *SERVICES)
    config = with_ipc(config, folder.path)
    say_what_is_heard(config, folder.path)
    notifier = Notifier.of_environment()
    with ExitStack() as stack:
        without = list(addresses(config, "documents")) if beside.documents else []
        if without:
            without = [f"no bluesky documents are sent: {'; '.join(without)}; or leave them out with --no-documents"]
            log.error("%s; all else goes on", without[0])
            beside = replace(beside, documents=False)
        works = [*_works_beside(config, beside, stack), *service_works(config, folder.lock)]
        services = Supervisor(works, hung_s=config.services.hung_s, logs=Logs(as_json, config.log), failures=without)
        interrupted = stack.enter_context(interruptible(notifier.stopping, services.kill))
        context = stack.enter_context(new_context(config.security))
        watcher = stack.enter_context(Watcher(context, config.services))
        stack.enter_context(monitored(config, SERVICES, beside.metrics))
        stack.enter_context(services)
        progress = stack.enter_context(Progress(as_json=as_json))
        yield Session(services, watcher, progress, interrupted, notifier)

        def waiting() -> None:
            give_up_streams()
            notifier.beat()
            watcher.poll(0)
            progress.show(watcher)

        services.finish(waiting)
        watcher.poll(0.2)
        progress.show(watcher, force=True)


def monitored(config: Config, services: Iterable[str], metrics: tuple[str, int] | None) -> AbstractContextManager[object]:
    """Health and metrics of these services at this host and port, if there are any."""
    if metrics is None:
        return nullcontext()
    from streamptycho_services.health.server import HealthServer  # takes as long to import as a service

    host, port = metrics
    return HealthServer(config, services, port, host)


def service_works(config: Config, *descriptors: int) -> list[Work]:
    """The three services, consumers first; they inherit `descriptors`."""
    return [Work(name, function, (config,), descriptors, orphaned_s=ORPHANED_S[name]) for name, function in SERVICES.items()]


def _works_beside(config: Config, beside: Beside, stack: ExitStack) -> Iterator[Work]:
    if beside.documents:
        yield documents_work(config)
    if beside.page is not None:
        access, listener = open_page(beside.page)
        stack.enter_context(listener)
        print(f"live page: {address_of(listener, access)}", file=sys.stderr, flush=True)
        yield page_work(config, access, listener)
