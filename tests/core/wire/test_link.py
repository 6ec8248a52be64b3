"""Link version 1: what every version must keep."""

from headgate.core.wire import link


def test_tags_are_unique_and_listed() -> None:
    kinds = link.Message.__args__
    tags = [k.__struct_config__.tag for k in kinds]
    assert len(set(tags)) == len(tags) == 50
