"""The objects that a gateway is built with have every method of its ports, with the same parameters."""

import inspect

import pytest

from headgate.core.fanout import ports
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.links.memory_directory import MemoryDirectory
from headgate.runtime.metrics import Metrics
from headgate.runtime.tokens import Authenticator
from tests.numbers_twin import Numbers
from tests.owners_twin import Owners

PAIRS = [
    (ports.Upstream, LinkDirectory),
    (ports.Upstream, MemoryDirectory),
    (ports.Upstream, Owners),
    (ports.GatewayMetrics, Metrics),
    (ports.GatewayMetrics, Numbers),
    (ports.TokenReader, Authenticator),
]


@pytest.mark.parametrize(("port", "adapter"), PAIRS)
def test_an_adapter_has_the_methods_of_its_port(port: type, adapter: type) -> None:
    wanted = {name: call for name, call in vars(port).items() if inspect.isfunction(call) and not name.startswith("_")}
    assert wanted
    for name, call in wanted.items():
        names = list(inspect.signature(getattr(adapter, name)).parameters)
        assert names[: len(inspect.signature(call).parameters)] == list(inspect.signature(call).parameters), name
