"""The three services as functions of (config, control, context): a process or a thread each, the same code.

Each imports its own stage: the others would keep its process from starting for a second.
"""

import logging
from contextlib import ExitStack
from typing import Any

from streamptycho.config import Config
from streamptycho.dialects.door import OURS
from streamptycho.messages.reasons import ServiceKind
from streamptycho.pipeline.stage import Port
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.inlink import InLink
from streamptycho.wire.outlink import OutLink
from streamptycho.wire.sockets import Receiver, Sender, new_context
from streamptycho_services.processes.runtime import Control, Outlets, serve

log = logging.getLogger(__name__)

RECEIVE, WRITE, RECONSTRUCT = ServiceKind.RECEIVE.value, ServiceKind.WRITE.value, ServiceKind.RECONSTRUCT.value
ENGINE_WAIT_S = 20.0
"""How long the receiver waits for a reconstruction before it goes on without one."""
ENGINE_BYTES, ENGINE_MESSAGES = 64 << 20, 512
"""What the receiver keeps of what it has sent to a reconstruction; the rest of what that must have is in its backlog."""
LAST_S = 1.0
"""How long the end of the receiver takes in what is in its sockets: a detector may never fall silent."""
RESULTS_MESSAGES = 128
"""Snapshots and others that a reconstruction keeps for the writer."""
COMMANDS = 64
"""Commands of viewers that wait."""
ENDED_SCANS = 8
"""Scans that are over, of which a writer that is restarted is told: it may still owe them their picture."""
ENDED_RESULTS = 2
"""The same for what a reconstruction says at the end of a scan."""


def receive(config: Config, control: Control, context: Any = None) -> None:
    """Join the detector's streams; the detector is not listened to before the writer is there."""
    from streamptycho.compose.composer import Composer
    from streamptycho.pipeline.receive import ReceiveStage
    from streamptycho.sources.listener import listen

    with ExitStack() as stack:
        context = context or stack.enter_context(new_context(config.security))
        services, kept_bytes = config.services, config.links.max_unacknowledged_bytes
        writer = stack.enter_context(OutLink(context, services.writer, WRITE, max_bytes=kept_bytes, over=ENDED_SCANS))
        engine_bytes = min(ENGINE_BYTES, kept_bytes)
        engine = OutLink(
            context, services.engine, RECONSTRUCT, max_bytes=engine_bytes, max_messages=ENGINE_MESSAGES, needs_peer=True
        )
        stack.enter_context(engine)
        display = stack.enter_context(Sender(context, _pub(services.display_receive)))
        while not writer.wait_for_peer(10, control.ended):
            if control.ended():
                return
            log.warning("waiting for the writer at %s", services.writer)
        resumed = writer.resumed()  # the frames of a scan under way wait for nobody
        if not resumed and not engine.wait_for_peer(ENGINE_WAIT_S, control.ended) and not control.ended():
            log.warning("no reconstruction at %s after %.0f s; receiving without it", services.engine, ENGINE_WAIT_S)
        listener = stack.enter_context(listen(context, config.detector.by_role))
        outlets: Outlets = {Port.WRITER: writer, Port.ENGINE: engine, Port.DISPLAY: display}
        foreign = [role for role, endpoint in config.detector.by_role.items() if endpoint.format != OURS]
        stage = ReceiveStage(config.match, composer=Composer(config.scan, foreign))
        first = stage.resume(resumed)
        serve(stage, listener, outlets, control, take=lambda heard: stage.hear(*heard), first=first, drain_at_end_s=LAST_S)


def reconstruct(config: Config, control: Control, context: Any = None) -> None:
    """Refine the object from scan points."""
    from streamptycho.pipeline.reconstruct import ReconstructStage

    with ExitStack() as stack:
        context = context or stack.enter_context(new_context(config.security))
        services = config.services
        stage = ReconstructStage(config.reconstruct, config.preprocess, config.positions, config.engine)
        kept_bytes = config.links.max_unacknowledged_bytes
        results = OutLink(
            context, services.results, WRITE, max_bytes=kept_bytes, max_messages=RESULTS_MESSAGES, over=ENDED_RESULTS
        )
        outlets: Outlets = {
            Port.RESULTS: stack.enter_context(results),
            Port.DISPLAY: stack.enter_context(Sender(context, _pub(services.display_reconstruct))),
        }
        commands = None
        if config.reconstruct.allow_control:
            pull = SocketKind.PULL
            commands = Endpoint(address=services.control, socket=pull, bind=True, queue=COMMANDS, max_message_bytes=4096)
        engine = InLink(context, services.engine, RECONSTRUCT)
        # the writer says there in which file the scan is
        written = Endpoint(address=services.display_write, socket=SocketKind.SUB, queue=20)
        receiver = stack.enter_context(Receiver(context, [written], commands, links=[engine], names=[RECEIVE]))
        serve(stage, receiver, outlets, control)


def write(config: Config, control: Control, context: Any = None) -> None:
    """Write frames, positions and snapshots."""
    from streamptycho.pipeline.write import WriteStage

    with ExitStack() as stack:
        context = context or stack.enter_context(new_context(config.security))
        services = config.services
        stage = WriteStage(config.write, config.model_dump_json())
        outlets: Outlets = {Port.DISPLAY: stack.enter_context(Sender(context, _pub(services.display_write)))}
        frames = InLink(context, services.writer, WRITE, resume=stage.holdings)
        results = InLink(context, services.results, WRITE, after=frames)  # of scans that it knows by then
        receiver = stack.enter_context(Receiver(context, [], links=[frames, results], names=[RECEIVE, RECONSTRUCT]))
        serve(stage, receiver, outlets, control)


SERVICES = {"write": write, "reconstruct": reconstruct, "receive": receive}
"""Consumers first: the order in which they are started. They are stopped in the opposite order."""


def _pub(address: str) -> Endpoint:
    return Endpoint(address=address, socket=SocketKind.PUB, bind=True, queue=20)
