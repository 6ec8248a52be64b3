"""Demonstration `backpressure` of the in-process broker: `python examples/broker/backpressure.py [--json]`.

The code is headgate/broker/demos/backpressure_demo.py; `headgate demo` runs all five.
"""

import sys

from headgate.cli.demo import demo

if __name__ == "__main__":
    sys.exit(demo(["backpressure"], as_json="--json" in sys.argv))
