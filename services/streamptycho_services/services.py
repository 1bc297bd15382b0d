"""The three services as functions of (config, control, context): a process or a thread each, the same code.

Each imports its own stage: the others would keep its process from starting for a second.
"""

import logging
from contextlib import ExitStack
from typing import Any

from streamptycho.config import Config
from streamptycho.pipeline.stage import Port
from streamptycho.transport import Endpoint, Receiver, Sender, SocketKind, new_context
from streamptycho_services.runtime import Control, serve

log = logging.getLogger(__name__)

ENGINE_WAIT_S = 20.0
"""How long the receiver waits for a reconstruction before it goes on without one."""
INNER_QUEUE = 64
"""Messages queued at the receiving end of an edge between services."""
OUTER_QUEUE = 256
"""Messages queued at the sending end: a tenth of a second and more at the highest rates, 1 GB of frames of 4 MB."""


def receive(config: Config, control: Control, context: Any = None) -> None:
    """Join the detector's streams; the detector is not listened to before the writer is there."""
    from streamptycho.pipeline.receive import ReceiveStage

    with ExitStack() as stack:
        context = context or stack.enter_context(new_context())
        services = config.services
        writer = stack.enter_context(Sender(context, _push(services.writer)))
        engine = stack.enter_context(Sender(context, _push(services.engine)))
        display = stack.enter_context(Sender(context, _pub(services.display_receive)))

        def stop() -> bool:
            return control.finish.is_set() or control.killed()

        while not writer.wait_for_peer(10, stop):
            if stop():
                return
            log.warning("waiting for the writer at %s", services.writer)
        if not engine.wait_for_peer(ENGINE_WAIT_S, stop) and not stop():
            log.warning("no reconstruction at %s after %.0f s; receiving without it", services.engine, ENGINE_WAIT_S)
        detector = [config.detector.frames, config.detector.positions]
        receiver = stack.enter_context(Receiver(context, detector))
        outlets = {Port.WRITER: writer, Port.ENGINE: engine, Port.DISPLAY: display}
        # a detector may never fall silent: what is in its sockets at the end stays there
        serve(ReceiveStage(config.match), receiver, outlets, control, drain_at_end_s=0)


def reconstruct(config: Config, control: Control, context: Any = None) -> None:
    """Refine the object from scan points."""
    from streamptycho.pipeline.reconstruct import ReconstructStage

    with ExitStack() as stack:
        context = context or stack.enter_context(new_context())
        services = config.services
        stage = ReconstructStage(config.reconstruct, config.preprocess, config.positions, config.engine)
        outlets = {
            Port.RESULTS: stack.enter_context(Sender(context, _push(services.results))),
            Port.DISPLAY: stack.enter_context(Sender(context, _pub(services.display_reconstruct))),
        }
        commands = None
        if config.reconstruct.allow_control:
            pull = SocketKind.PULL
            commands = Endpoint(address=services.control, socket=pull, bind=True, queue=INNER_QUEUE, max_message_bytes=4096)
        receiver = stack.enter_context(Receiver(context, [_pull(services.engine)], commands))
        serve(stage, receiver, outlets, control)


def write(config: Config, control: Control, context: Any = None) -> None:
    """Write frames, positions and snapshots."""
    from streamptycho.pipeline.write import WriteStage

    with ExitStack() as stack:
        context = context or stack.enter_context(new_context())
        services = config.services
        stage = WriteStage(config.write, config.model_dump_json())
        outlets = {Port.DISPLAY: stack.enter_context(Sender(context, _pub(services.display_write)))}
        receiver = stack.enter_context(Receiver(context, [_pull(services.writer), _pull(services.results)]))
        serve(stage, receiver, outlets, control)


SERVICES = {"write": write, "reconstruct": reconstruct, "receive": receive}
"""Consumers first: the order in which they are started. They are stopped in the opposite order."""


def _push(address: str) -> Endpoint:
    return Endpoint(address=address, socket=SocketKind.PUSH, bind=True, queue=OUTER_QUEUE)


def _pub(address: str) -> Endpoint:
    return Endpoint(address=address, socket=SocketKind.PUB, bind=True, queue=20)


def _pull(address: str) -> Endpoint:
    return Endpoint(address=address, socket=SocketKind.PULL, queue=INNER_QUEUE)
