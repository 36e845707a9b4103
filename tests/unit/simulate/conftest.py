"""One small simulated city for the tests of this folder, and the casework of one of a third of the size."""

import pytest

from assets.simulate import building
from assets.simulate.city import SimulationSummary, simulate
from assets.simulate.ground import lay_ground
from assets.simulate.process import happen
from assets.simulate.reporting import service_requests

SMALL = 0.05


@pytest.fixture(scope="session")
def small_city(tmp_path_factory) -> SimulationSummary:
    return simulate(tmp_path_factory.mktemp("home") / "simulated", scale=SMALL)


@pytest.fixture(scope="session")
def happenings():
    return happen(lay_ground(311), 311, 0.3)[0]


@pytest.fixture(scope="session")
def permits(happenings):
    return building.permits(happenings, 311)


@pytest.fixture(scope="session")
def requests(happenings, permits):
    return service_requests(happenings, building.construction_noise(permits, 311), 311)
