"""One message to many real sockets, small: every socket gets it once, in slices, while a plain topic goes on."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_message_reaches_every_socket_of_a_hot_topic_once() -> None:
    command = [sys.executable, "-m", "bench.hot_sweep", "--sockets", "600", "--extra", "100", "--messages", "2"]
    command += ["--every", "0.5", "--quiet", "0.3", "--write-us", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    figures = {line[:32].strip(): float(line[32:]) for line in done.stdout.splitlines()}
    assert figures["sweeps"] == 2 and figures["slices"] >= 2 and figures["in memory"] == 100
