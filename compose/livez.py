#!/opt/headgate/bin/python -IS
"""The image's health check: exit 0 when /livez of this container's admin port says 200; knows nothing of the role."""

import os
import socket
import sys

port = int(os.environ.get("HEADGATE_ADMIN__PORT") or "9090")
try:
    with socket.create_connection(("127.0.0.1", port), 2) as wire:
        wire.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status = wire.recv(64).partition(b"\r\n")[0]
except OSError as error:
    sys.exit(f"127.0.0.1:{port}: {error}")
sys.exit(0 if b" 200 " in status else f"127.0.0.1:{port}: {status!r}")
