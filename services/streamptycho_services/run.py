"""Long-running operation: all services on this machine, or one of them here and the others elsewhere."""

import tempfile
import threading
from pathlib import Path

from streamptycho.config import Config
from streamptycho.transport import new_context
from streamptycho_services.interrupt import interruptible
from streamptycho_services.local import LocalServices, with_ipc
from streamptycho_services.progress import Progress
from streamptycho_services.runtime import Control
from streamptycho_services.services import SERVICES
from streamptycho_services.watch import Watcher


class ServiceDiedError(RuntimeError):
    """A service ended by itself."""


def run_all(config: Config, *, as_json: bool) -> None:
    """All services on this machine until interrupted, with progress.

    Raises :class:`ServiceDiedError` if one of them dies.
    """
    with tempfile.TemporaryDirectory(prefix="streamptycho-") as name:
        config = with_ipc(config, Path(name))
        services = LocalServices(config, json_logs=as_json)
        with (
            interruptible(on_second=services.kill) as interrupted,
            new_context() as context,
            Watcher(context, config.services) as watcher,
            services,
            Progress(as_json=as_json) as progress,
        ):
            while not interrupted.is_set():
                watcher.poll(0.1)
                progress.show(watcher)
                dead = services.failed()
                if dead is not None:
                    raise ServiceDiedError(f"service {dead} ended unexpectedly; its messages are above")

            def waiting() -> None:
                watcher.poll(0)
                progress.show(watcher)

            services.finish(waiting)
            watcher.poll(0.2)
            progress.show(watcher, force=True)


def run_one(name: str, config: Config) -> None:
    """One service in this process, until interrupted."""
    kill = threading.Event()
    with interruptible(on_second=kill.set) as interrupted:
        SERVICES[name](config, Control(finish=interrupted, kill=kill))
