"""Demonstration `retry` of the in-process broker: `python examples/broker/retry.py [--json]`.

The code is headgate/broker/demos/retry_demo.py; `headgate demo` runs all five.
"""

import sys

from headgate.cli.demo import demo

if __name__ == "__main__":
    sys.exit(demo(["retry"], as_json="--json" in sys.argv))
