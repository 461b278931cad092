"""Whose request a call is, by the address that gRPC gives."""

from types import SimpleNamespace

import pytest

from tokenizer_service.client_identity import client_of


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv4:10.0.0.7:51234", "10.0.0.7"),
        ("ipv6:%5B2001:db8::1%5D:51234", "2001:db8::1"),
        ("ipv6:[2001:db8::1]:51234", "2001:db8::1"),
        ("unix:", ""),
        ("unix:/run/tandem.sock", ""),
    ],
)
def test_a_client_is_a_host_whatever_its_port(peer, client):
    assert client_of(SimpleNamespace(peer=lambda: peer)) == client
