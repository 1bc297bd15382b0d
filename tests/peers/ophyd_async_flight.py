"""A fly scan of ophyd-async's simulated detector, published as bluesky does. Arguments: folder, number of frames.

Run by the tests in an interpreter that has ophyd-async; prints the address, begins with the first subscriber, and
prints the end of each stream_datum and when it is sent.
"""

import sys
import time
from pathlib import PurePath

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import msgpack
import zmq
from bluesky.run_engine import RunEngine
from ophyd_async import sim
from ophyd_async.core import StaticPathProvider, TriggerInfo, UUIDFilenameProvider, init_devices

folder, frames = PurePath(sys.argv[1]), int(sys.argv[2])
engine = RunEngine()
with init_devices():
    det = sim.SimBlobDetector(StaticPathProvider(UUIDFilenameProvider(), folder))
socket = zmq.Context.instance().socket(zmq.XPUB)
print(f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}", flush=True)
socket.recv()


def publish(name, doc):
    if name == "stream_datum":
        print(doc["indices"]["stop"], time.time(), flush=True)
    socket.send(b" ".join((b"", name.encode(), msgpack.packb(doc))))


@bpp.stage_decorator([det])
@bpp.run_decorator(md={"sample": "star"})
def fly():
    yield from bps.prepare(det, TriggerInfo(number_of_events=frames, livetime=0.05, deadtime=0.05), wait=True)
    yield from bps.declare_stream(det, name="primary", collect=True)
    yield from bps.kickoff(det, wait=True)
    yield from bps.collect_while_completing(flyers=[det], dets=[det], flush_period=0.3, stream_name="primary")


engine(fly(), publish)
socket.close(linger=5000)
zmq.Context.instance().term()
