"""Listening in both families, and how an address is written."""

import socket

import pytest

from headgate.runtime.sockets import authority, listen

IPV6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


def reaches(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


@IPV6
@pytest.mark.parametrize("host", ["::", "[::]"])
def test_all_addresses_are_those_of_both_families(host: str) -> None:
    with listen(host, 0, 8) as listening:
        port = listening.getsockname()[1]
        assert reaches("127.0.0.1", port) and reaches("::1", port)


def test_all_addresses_are_ipv4_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listen("::", 0, 8) as listening:
        assert listening.family == socket.AF_INET and reaches("127.0.0.1", listening.getsockname()[1])


@IPV6
def test_one_address_is_one_family() -> None:
    with listen("::1", 0, 8) as listening:
        assert not reaches("127.0.0.1", listening.getsockname()[1])


def test_a_port_that_is_taken_is_named_as_in_a_url() -> None:
    with listen("127.0.0.1", 0, 8) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: "):
            listen("127.0.0.1", port, 8)


def test_an_address_in_a_url_stands_in_brackets() -> None:
    assert [authority(host, 80) for host in ("::1", "[::1]", "a.b", "127.0.0.1")] == [
        "[::1]:80",
        "[::1]:80",
        "a.b:80",
        "127.0.0.1:80",
    ]
