"""What pandablocks' client gets from the data port of a PandA, as JSON lines. Arguments: port, scaled or raw.

Run by the tests in an interpreter that has pandablocks.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable

from pandablocks.connections import DataConnection
from pandablocks.responses import Data, EndData, FrameData, ReadyData, StartData


async def received(port: int, *, scaled: bool) -> AsyncIterator[Iterable[Data]]:
    connection = DataConnection()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(connection.connect(scaled=scaled))
    while part := await reader.read(4096):
        yield connection.receive_bytes(part)


async def main(port: int, *, scaled: bool) -> None:
    async for items in received(port, scaled=scaled):
        for item in items:
            match item:
                case ReadyData():
                    print(json.dumps({"ready": True}), flush=True)
                case StartData():
                    print(json.dumps({"fields": [[f.name, f.capture, f.units] for f in item.fields], "missed": item.missed}))
                case FrameData():
                    print(json.dumps({name: item.data[name].tolist() for name in item.column_names}))
                case EndData():
                    print(json.dumps({"samples": item.samples, "reason": item.reason.value}), flush=True)
                    return


asyncio.run(main(int(sys.argv[1]), scaled=sys.argv[2] == "scaled"))
