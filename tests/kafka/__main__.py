"""Starts a Kafka by hand: `python -m tests.kafka [--nodes N] [--port P]`, until Ctrl-C or SIGTERM.

Must not know tests. Prints one line on stdout, the bootstrap address; the rest goes to stderr.
"""

import argparse
import signal
import sys

from tests.kafka.cluster import SIZES, KafkaCluster
from tests.kafka.jars import JarRefused, JarUnavailable
from tests.kafka.node import KafkaStartError
from tests.kafka.ports import NoFreePort


def main() -> int:
    """Return the exit code: 0 after a signal, 1 when Kafka did not start."""
    options = _arguments()
    # An exception for both, so that the cluster is stopped also when it is half started. SIGINT by name too: a shell
    # starts its background jobs with it ignored.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    try:
        with KafkaCluster(options.nodes, first_port=options.port) as cluster:
            print(cluster.bootstrap, flush=True)
            print(f"settings, data and output: {cluster.folder}; stop with Ctrl-C", file=sys.stderr)
            while True:
                signal.pause()
    except KeyboardInterrupt:
        return 0
    except (KafkaStartError, JarRefused, JarUnavailable, NoFreePort) as error:
        print(f"kafka: {error}", file=sys.stderr)
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kafka", description="A real Kafka for development.")
    parser.add_argument("--nodes", type=int, choices=SIZES, default=1)
    parser.add_argument("--port", type=int, help="of node 1, the others follow; by default any free ones")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
