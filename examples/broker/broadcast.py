"""Demonstration `broadcast` of the in-process broker: `python examples/broker/broadcast.py [--json]`.

The code is headgate/broker/demos/broadcast_demo.py; `headgate demo` runs all five.
"""

import sys

from headgate.cli.demo import demo

if __name__ == "__main__":
    sys.exit(demo(["broadcast"], as_json="--json" in sys.argv))
