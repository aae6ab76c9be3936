"""The socket that the API listens on."""

import errno
import socket

from service.host.start_failures import ServeError


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket to the address, without listening yet. Raises ServeError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"port {port} of {host} is in use: choose another with --port, or stop what "
                f"listens there"
            ) from error
        raise ServeError(
            f"cannot listen on {host} port {port}: {error.strerror or error}"
        ) from error
    return listener
