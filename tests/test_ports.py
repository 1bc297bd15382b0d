"""Ports of tests stay free until they are bound."""

import socket

from tests.ports import HIGHEST, LOWEST, free_address, free_port, lasting_ports


def test_no_outgoing_connection_can_take_one():
    assert lasting_ports((32_768, 60_999)) == [*range(LOWEST, 32_768), *range(61_000, HIGHEST + 1)]
    assert lasting_ports((16_000, 65_535)) == list(range(LOWEST, 16_000))


def test_where_all_are_given_to_connections_any_will_do():
    assert lasting_ports((1024, 65_535)) == list(range(LOWEST, HIGHEST + 1))


def test_none_is_given_twice_and_all_can_be_bound():
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == len(ports)
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_one_that_is_taken_is_passed_over(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken, other = server.getsockname()[1], free_port()
        monkeypatch.setattr("tests.ports._ports", iter([taken, other]))
        assert free_address() == f"tcp://127.0.0.1:{other}"
