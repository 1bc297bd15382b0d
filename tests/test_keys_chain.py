"""The whole chain with keys on every socket."""

from pathlib import Path

from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.keys import write_key_pair
from streamptycho.wire.sockets import Receiver, Sender, new_context
from streamptycho_services.processes.watch import Watcher
from streamptycho_sim.publisher import PublishOptions, publish
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from streamptycho_sim.stream import encode
from tests import chain
from tests.hostile import GOOD


def test_a_scan_arrives_and_strangers_get_and_give_nothing(tmp_path: Path, caplog) -> None:
    """Detector, services and viewers share one pair; somebody without one is at every port from the beginning."""
    _, secret = write_key_pair(tmp_path / "keys", "beamline")
    settings = chain.config(tmp_path, security__secret_key=secret)
    services, scan = settings.services, SimulatedScan(SyntheticOptions(scan_id="scan", frames=60, shape=48))
    displays = [services.display_receive, services.display_reconstruct, services.display_write]
    with (
        new_context(settings.security) as context,
        new_context() as without,
        Receiver(without, [Endpoint(address=address, socket=SocketKind.SUB) for address in displays]) as viewer,
        Receiver(without, [Endpoint(address=services.writer, socket=SocketKind.PULL)]) as thief,
        Sender(without, Endpoint(address=settings.detector.frames.address, socket=SocketKind.PUSH), linger_s=0) as liar,
        Watcher(context, services) as watcher,
        chain.in_threads(settings, context) as check,
    ):
        options = PublishOptions(rate_hz=300.0, peer_timeout_s=20)
        publish(encode(scan.items(), options.encoding), *chain.outlets(settings.detector), options, context=context)
        chain.wait_written(watcher, "scan", check=check)
        assert viewer.receive(0) is None
        assert thief.receive(0) is None
        assert not liar.send(GOOD["end"])
        written = watcher.known("scan").write
    chain.assert_frames(Path(written.file), dict(enumerate(scan.counts())))
    assert chain.facts(Path(written.file))["complete"] == 1
    assert any(" is refused at tcp:" in line for line in caplog.messages)
