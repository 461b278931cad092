"""Addresses to listen on: which are local, and whose socket nobody may take."""

import socket

import pytest

from tandem_service.listen_address import check_socket_is_free, is_local


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("unix:/run/tandem.sock", True),
        ("127.0.0.1:50051", True),
        ("127.9.9.9:1", True),
        ("[::1]:50051", True),
        ("localhost:50051", True),
        ("0.0.0.0:50051", False),
        ("[::]:50051", False),
        ("10.0.0.1:50051", False),
        ("example.com:50051", False),
    ],
)
def test_only_loopback_and_sockets_are_local(listen, expected):
    assert is_local(listen) == expected


def test_a_socket_is_taken_only_while_something_listens(tmp_path):
    path = tmp_path / "a.sock"
    address = f"unix:{path}"
    check_socket_is_free(address)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(ValueError, match="something listens there already"):
            check_socket_is_free(address)
    assert path.exists()
    check_socket_is_free(address)


def test_a_directory_that_may_not_be_entered_is_said(tmp_path):
    path = tmp_path / ("x" * 200)
    with pytest.raises(ValueError, match="path too long"):
        check_socket_is_free(f"unix:{path}")
