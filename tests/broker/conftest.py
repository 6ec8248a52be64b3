"""A broker, and what it said."""

import pytest

from headgate import Broker
from tests.broker.recorder import Recorder


@pytest.fixture
def heard() -> Recorder:
    return Recorder("heard")


@pytest.fixture
def broker(heard: Recorder) -> Broker:
    made = Broker()
    made.add_listener(heard.hear)
    return made
