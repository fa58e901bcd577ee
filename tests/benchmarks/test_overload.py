"""Whose processor time is whose while a server is overloaded."""

import socket
import subprocess

import psutil

from benchmarks.overload import listening


def test_the_server_is_found_though_its_children_hold_its_port_too() -> None:
    """The engine inherits the socket: the oldest of them is the server."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        url = f"http://127.0.0.1:{port.getsockname()[1]}"
        with subprocess.Popen(["sleep", "60"], pass_fds=[port.fileno()]) as child:
            try:
                assert listening(url) == psutil.Process()
            finally:
                child.kill()
    assert listening(url) is None


def test_of_a_server_elsewhere_nothing_is_known() -> None:
    assert listening("http://192.0.2.1:80") is None
