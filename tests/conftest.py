"""What every test may use; the Kafka fixtures also say at the end how many tests went without one."""

pytest_plugins = ["tests.kafka.fixtures"]
