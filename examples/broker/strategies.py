"""Demonstration `strategies` of the in-process broker: `python examples/broker/strategies.py [--json]`.

The code is headgate/broker/demos/strategies_demo.py; `headgate demo` runs all five.
"""

import sys

from headgate.cli.demo import demo

if __name__ == "__main__":
    sys.exit(demo(["strategies"], as_json="--json" in sys.argv))
