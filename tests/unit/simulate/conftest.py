"""One small simulated city for the tests of this folder."""

import pytest

from assets.simulate.city import SimulationSummary, simulate

SMALL = 0.05


@pytest.fixture(scope="session")
def small_city(tmp_path_factory) -> SimulationSummary:
    return simulate(tmp_path_factory.mktemp("home") / "simulated", scale=SMALL)
