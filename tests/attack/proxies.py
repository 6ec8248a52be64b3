"""The proxies of the smuggling run: Go's ReverseProxy and nginx, each with one connection upstream."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream behind {{ server 127.0.0.1:{upstream}; keepalive 1; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Host $host; proxy_request_buffering off;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
    }}
  }}
}}
"""


@contextlib.contextmanager
def go_proxy(upstream: int) -> Iterator[int]:
    """Yields the port of Go's reverse proxy. Needs `go`."""
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "proxy"
        source = Path(__file__).with_name("proxy.go")
        subprocess.run(["go", "build", "-o", str(built), str(source)], check=True, timeout=300)
        with _running([str(built), f"http://127.0.0.1:{upstream}"], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            yield int(process.stdout.readline())


@contextlib.contextmanager
def nginx(upstream: int) -> Iterator[int]:
    """Yields the port of nginx with the usual lines for WebSockets. Needs `nginx`."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        probe.close()
        configuration = Path(folder) / "nginx.conf"
        configuration.write_text(_NGINX.format(folder=folder, port=port, upstream=upstream))
        with _running(["nginx", "-p", folder, "-c", str(configuration)]):
            _until_open(port)
            yield port


PROXIES = {"go": go_proxy, "nginx": nginx}


def missing(name: str) -> bool:
    """Says that the program of a proxy is not on this machine."""
    return shutil.which(name) is None


def _until_open(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("the proxy does not listen")


@contextlib.contextmanager
def _running(command: list[str], stdout: int | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(command, stdout=stdout) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)
