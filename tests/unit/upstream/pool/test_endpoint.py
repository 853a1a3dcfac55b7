"""Addresses and names of endpoints, and what becomes of their connections."""

from __future__ import annotations

import pytest

from gateway.config.tables.endpoints import EndpointConfig
from gateway.upstream.pool.endpoint import Address, Endpoint, by_address
from gateway.upstream.pool.health import Passive

URLS = [
    # url, address, name, authority
    ("http://127.0.0.1:3001", ("http", "127.0.0.1", 3001, ""), "127.0.0.1:3001", "127.0.0.1:3001"),
    (
        "http://BeCamera.Internal",
        ("http", "becamera.internal", 80, ""),
        "becamera.internal:80",
        "becamera.internal",
    ),
    (
        "https://api.example.com",
        ("https", "api.example.com", 443, ""),
        "api.example.com:443",
        "api.example.com",
    ),
    (
        "https://api.example.com:80/",
        ("https", "api.example.com", 80, ""),
        "api.example.com:80",
        "api.example.com:80",
    ),
    ("http://h:0", ("http", "h", 0, ""), "h:0", "h:0"),
    ("http://h:81/v1/", ("http", "h", 81, "/v1"), "h:81", "h:81"),
    ("http://h:81/a%2Fb;x", ("http", "h", 81, "/a%2Fb;x"), "h:81", "h:81"),
    ("http://[::1]:3001", ("http", "::1", 3001, ""), "[::1]:3001", "[::1]:3001"),
    ("http://[2001:DB8::1]", ("http", "2001:db8::1", 80, ""), "[2001:db8::1]:80", "[2001:db8::1]"),
]


@pytest.mark.parametrize(
    ("url", "address", "name", "authority"), URLS, ids=[case[0] for case in URLS]
)
def test_an_endpoint_is_made_of_its_url(
    url: str, address: tuple[str, str, int, str], name: str, authority: str
) -> None:
    endpoint = Endpoint("becamera", EndpointConfig(url))
    assert endpoint.address == address
    assert (endpoint.scheme, endpoint.host, endpoint.port, endpoint.path) == address
    assert endpoint.name == name
    assert endpoint.authority == authority


def test_names_get_longer_until_they_differ() -> None:
    assert Address.of("https://h:443/v1").names() == ("h:443", "h:443/v1", "https://h:443/v1")
    assert Endpoint("u", EndpointConfig("https://h:443/v1"), "h:443/v1").name == "h:443/v1"


def test_a_new_endpoint_does_nothing_yet() -> None:
    endpoint = Endpoint(
        "becamera", EndpointConfig("http://h:1", weight=3, max_connections=7, backup=True)
    )
    assert (endpoint.weight, endpoint.max_connections, endpoint.backup) == (3, 7, True)
    assert (endpoint.in_flight, endpoint.idle, endpoint.health.status) == (0, [], "unknown")


def test_settings_change_in_place() -> None:
    endpoint = Endpoint("becamera", EndpointConfig("http://h:1"))
    endpoint.in_flight = 4
    endpoint.configure(EndpointConfig("http://h:1", weight=3, max_connections=7, backup=True))
    assert (endpoint.weight, endpoint.max_connections, endpoint.backup, endpoint.in_flight) == (
        3,
        7,
        True,
        4,
    )


def test_repr_reads_like_a_status_line() -> None:
    endpoint = Endpoint("becamera", EndpointConfig("http://h:1", weight=2))
    assert repr(endpoint) == "<Endpoint becamera/h:1 unknown, weight 2, 0 in flight, 0 idle>"
    endpoint.configure(EndpointConfig("http://h:1", max_connections=9, backup=True))
    endpoint.in_flight = 3
    endpoint.health.passive = Passive((), 5.0)
    assert (
        repr(endpoint) == "<Endpoint becamera/h:1 ejected backup, weight 1, 3/9 in flight, 0 idle>"
    )


class Connection:
    """Takes itself out of the idle ones when it is closed, as the transport's do."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.closed = 0

    def close(self) -> None:
        self.closed += 1
        if self in self.endpoint.idle:
            self.endpoint.idle.remove(self)


def test_idle_connections_are_closed() -> None:
    endpoint = Endpoint("becamera", EndpointConfig("http://h:1"))
    connections = [Connection(endpoint) for _ in range(3)]
    endpoint.idle.extend(connections)
    endpoint.close_idle()
    assert [connection.closed for connection in connections] == [1, 1, 1]
    assert endpoint.idle == []
    endpoint.idle.append(connections[0])
    assert endpoint.idle == [connections[0]]


def test_a_retired_endpoint_has_no_idle_connections() -> None:
    endpoint = Endpoint("becamera", EndpointConfig("http://h:1"))
    idle = Connection(endpoint)
    endpoint.idle.append(idle)
    endpoint.retire()
    assert endpoint.retired and idle.closed == 1
    assert endpoint.idle == []


def test_status_is_plain() -> None:
    endpoint = Endpoint("becamera", EndpointConfig("https://h/v1", weight=2, backup=True))
    endpoint.health.passive = Passive((), 112.5)
    endpoint.health.error = "connection refused"
    assert endpoint.status(now=100.0) == {
        "name": "h:443",
        "url": "https://h/v1",
        "status": "ejected",
        "weight": 2,
        "backup": True,
        "draining": False,
        "zone": "",
        "circuit": None,
        "max_connections": 0,
        "in_flight": 0,
        "idle": 0,
        "last_error": "connection refused",
        "ejected_for": 12.5,
        "checked_ago": None,
        "check_seconds": None,
    }
    endpoint.health.checked, endpoint.health.seconds, endpoint.health.passive = (
        97.0,
        0.25,
        Passive(),
    )
    status = endpoint.status(now=100.0)
    assert (status["ejected_for"], status["checked_ago"], status["check_seconds"]) == (
        0.0,
        3.0,
        0.25,
    )
    assert type(status["status"]) is str


def test_an_endpoint_listed_twice_gets_the_weight_of_both() -> None:
    configs = [
        EndpointConfig("http://H:80/", weight=2, backup=True),
        EndpointConfig("http://h", weight=3),
        EndpointConfig("http://h/other"),
    ]
    assert by_address(configs) == {
        ("http", "h", 80, ""): EndpointConfig("http://H:80/", weight=5, backup=True),
        ("http", "h", 80, "/other"): EndpointConfig("http://h/other"),
    }


@pytest.mark.parametrize(
    ("url", "host", "authority"),
    [
        ("http://münchen.example:81", "xn--mnchen-3ya.example", "xn--mnchen-3ya.example:81"),
        ("https://cameras.internal.", "cameras.internal.", "cameras.internal"),
        ("http://cameras.internal.:81", "cameras.internal.", "cameras.internal:81"),
    ],
)
def test_names_of_hosts(url: str, host: str, authority: str) -> None:
    """A-labels (RFC 5890); a trailing dot is the resolver's, and goes into no field."""
    address = Address.of(url)
    assert (address.host, address.authority) == (host, authority)


def test_a_unix_socket_is_an_endpoint() -> None:
    one = Endpoint("x", EndpointConfig("unix:/run/app.sock"))
    assert (one.scheme, one.host, one.authority, one.path) == (
        "unix",
        "/run/app.sock",
        "localhost",
        "",
    )
    assert (one.name, one.status(0.0)["url"]) == ("unix:/run/app.sock", "unix:/run/app.sock")
