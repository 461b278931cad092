"""Targets and channel options."""

import pytest

import tandem
from tandem.channel import merge, resolve
from tandem.cli.services import reachable


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("127.0.0.1:50051", "dns:///127.0.0.1:50051"),
        ("tandem.example:443", "dns:///tandem.example:443"),
        ("[::1]:50051", "dns:///[::1]:50051"),
        ("unix:/run/tandem", "unix:/run/tandem"),
        ("unix:tandem.socket", "unix:tandem.socket"),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", "ipv4:127.0.0.1:1,127.0.0.1:2"),
        ("dns:///tandem:50051", "dns:///tandem:50051"),
    ],
)
def test_resolve(target: str, name: str) -> None:
    assert resolve(target) == name


@pytest.mark.parametrize("target", ["", "localhost", "localhost:", ":50051", "http://localhost:5", "::1:5"])
def test_a_malformed_target_is_named(target: str) -> None:
    for kind in (tandem.Client, tandem.AsyncClient):
        with pytest.raises(ValueError, match="must be HOST:PORT or unix:PATH") as raised:
            kind(target)
        assert repr(target) in str(raised.value)


def test_given_options_replace_the_defaults() -> None:
    defaults = dict(merge(()))
    assert defaults["grpc.lb_policy_name"] == "round_robin"
    merged = merge([("grpc.keepalive_time_ms", 1), ("grpc.primary_user_agent", "me")])
    assert dict(merged) == {**defaults, "grpc.keepalive_time_ms": 1, "grpc.primary_user_agent": "me"}
    assert len(merged) == len(dict(merged))


@pytest.mark.parametrize(
    ("listen", "target"),
    [
        ("0.0.0.0:50051", "127.0.0.1:50051"),
        ("[::]:50051", "[::1]:50051"),
        ("10.0.0.1:50051", "10.0.0.1:50051"),
        ("unix:/run/tandem", "unix:/run/tandem"),
    ],
)
def test_a_service_that_listens_everywhere_is_reached_on_loopback(listen: str, target: str) -> None:
    assert reachable(listen) == target
