"""What tests of other files leave in the process is taken away."""

from __future__ import annotations

import pytest
from dlt.common.configuration.container import Container
from dlt.common.destination.capabilities import DestinationCapabilitiesContext


@pytest.fixture(autouse=True)
def no_earlier_destination() -> None:
    """dlt names what a schema has by the last destination that this process had."""
    container = Container()
    if DestinationCapabilitiesContext in container:
        del container[DestinationCapabilitiesContext]
