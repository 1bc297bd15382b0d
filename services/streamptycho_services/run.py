"""Long-running operation: all services on this machine, or one of them here and the others elsewhere."""

import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from streamptycho.config import Config
from streamptycho_services.dashboard.server import PageOptions, address_of, open_page, serve_page
from streamptycho_services.documents import documents as serve_documents
from streamptycho_services.documents.beside import DocumentsBeside
from streamptycho_services.interrupt import interruptible
from streamptycho_services.local import with_ipc
from streamptycho_services.runtime import Control
from streamptycho_services.services import SERVICES
from streamptycho_services.session import local_session


def run_all(config: Config, page: PageOptions | None, *, documents: bool, as_json: bool) -> None:
    """All services on this machine until interrupted, with progress; with `documents`, also for bluesky.

    Raises :class:`~streamptycho_services.session.ServiceDiedError` if one of them dies.
    """
    with ExitStack() as stack:
        config = with_ipc(config, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamptycho-"))))
        if documents:
            stack.enter_context(DocumentsBeside(config, json_logs=as_json))
        session = stack.enter_context(local_session(config, page, as_json=as_json))
        while not session.interrupted.is_set():
            session.look()


def run_one(name: str, config: Config) -> None:
    """One service in this process, until interrupted."""
    kill = threading.Event()
    with interruptible(on_second=kill.set) as interrupted:
        SERVICES[name](config, Control(finish=interrupted, kill=kill))


def run_page(config: Config, options: PageOptions) -> None:
    """The live page in this process, until interrupted; its address on standard error.

    Raises :class:`~streamptycho.errors.ConfigError` for an address or a token that cannot be used.
    """
    access, listener = open_page(options)
    print(f"live page: {address_of(listener, access)}", file=sys.stderr, flush=True)
    kill = threading.Event()
    with interruptible(on_second=kill.set) as interrupted:
        serve_page(config, access, listener, lambda: interrupted.is_set() or kill.is_set())


def run_documents(config: Config) -> None:
    """Only the documents, in this process, until interrupted."""
    kill = threading.Event()
    with interruptible(on_second=kill.set) as interrupted:
        serve_documents(config, Control(finish=interrupted, kill=kill))
