import gymnasium as gym
import pytest
import ray


@pytest.fixture(scope="session")
def ray_session():
    """Ray on this machine, with CPUs enough for a few small actors."""
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture(autouse=True, scope="session")
def _quiet_gymnasium():
    """The paper's environments are asked for by name, old versions and all."""
    gym.logger.min_level = gym.logger.ERROR
