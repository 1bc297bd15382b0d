"""What is known of the connection of a socket, from the events of libzmq."""

from contextlib import suppress
from typing import Any

import zmq

from streamptycho.wire.endpoint import Endpoint, SocketKind

ATTEMPTS = (
    zmq.EVENT_CONNECTED | zmq.EVENT_CONNECT_DELAYED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED
)
"""Events of a socket that connects, besides those of handshakes."""
TOLD = (SocketKind.PULL, SocketKind.SUB)
"""Sockets of which it is told how it stands with their connection."""
_UNKNOWN = "no connection to {address}: the name of its host is not known"
_SILENT = "no connection to {address}: its host does not answer"
_NOBODY = "no connection to {address}: nothing listens there"
_NO_WORD = "connected to {address}, but no ZeroMQ socket answers there"
_BREAKS_OFF = "no connection to {address}: what answers there breaks off; if it speaks ZeroMQ, set socket = '{other}'"
_KEYS = "no connection to {address}: its keys and ours do not fit, the log says why"
IDLE = "but nothing has come"
_MET = f"connected to {{address}}, {IDLE}"
_ENDED = "no connection to {address}: the sender has closed it"
_OTHER = {SocketKind.PULL: SocketKind.SUB, SocketKind.SUB: SocketKind.PULL}


class Watch:
    """The connection of one socket. The guard hears events, the thread that owns the socket does all else."""

    def __init__(self, socket: Any, endpoint: Endpoint) -> None:
        self._socket = socket
        self._kind = endpoint.socket
        self.address = endpoint.address
        self.given_up = False
        """Set by the guard some time after libzmq has given the connection up for good."""
        self.keyed = False
        """Whether both ends have to show keys, so that who breaks off may not accept ours."""
        self._words = ""
        self._attempted = False
        """Whether something was heard of the latest attempt; nothing is, where its address could not be looked up."""

    @property
    def standing(self) -> str:
        """How it stands with the connection, as long as nothing has come; empty where nobody knows."""
        return self._words.format(address=self.address, other=_OTHER.get(self._kind, ""))

    @property
    def breaks_off(self) -> bool:
        """Whether the peer's socket does not fit, or is none of ZeroMQ: nobody can tell which."""
        return self._words == _BREAKS_OFF

    def hear(self, event: int) -> None:
        """Take in an event."""
        if event == zmq.EVENT_CONNECT_DELAYED:  # the answer may be there in a moment
            self._words = self._words or _SILENT
        elif event == zmq.EVENT_CLOSED:
            self._words = _NOBODY
        elif event == zmq.EVENT_CONNECTED:
            self._words = _NO_WORD if not self.breaks_off else _BREAKS_OFF
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._words = _MET
        elif event in (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_AUTH):
            self._words = _KEYS
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._words = _KEYS if self.keyed else _BREAKS_OFF
        elif event == zmq.EVENT_DISCONNECTED:
            self._words = {_MET: _ENDED, _NO_WORD: _KEYS if self.keyed else _BREAKS_OFF}.get(self._words, self._words)
        elif event == zmq.EVENT_CONNECT_RETRIED and not self._attempted:
            self._words = _UNKNOWN
        self._attempted = event != zmq.EVENT_CONNECT_RETRIED

    def renew(self) -> None:
        """Connect again if libzmq will not: only one of the two ends had keys, or the sockets did not fit."""
        if self.given_up:
            self.given_up = False
            with suppress(zmq.ZMQError):  # libzmq may have forgotten the address
                self._socket.disconnect(self.address)
            self._socket.connect(self.address)
