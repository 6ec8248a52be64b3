"""Demonstration `basic` of the in-process broker: `python examples/broker/basic.py [--json]`.

The code is headgate/broker/demos/basic_demo.py; `headgate demo` runs all five.
"""

import sys

from headgate.cli.demo import demo

if __name__ == "__main__":
    sys.exit(demo(["basic"], as_json="--json" in sys.argv))
