"""How the tests' runs are started and disturbed."""

import threading
from contextlib import contextmanager

from rllib_lpdm import tune

SETTINGS = {
    "iterations": 40,
    "iterations_per_report": 1,
    "checkpoint_interval": 2,
    "hidden_sizes": [32, 32],
}
CELLS = [f"Hopper-v4_ppo_lpdm_s{seed}" for seed in range(3)]
HERE = ["--set", "in_process=true"]  # where the claim is not about processes, which cost seconds


@contextmanager
def meanwhile(disturb):
    """Runs a function beside the context; an error in it is raised at the end."""
    errors = []

    def run():
        try:
            disturb()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join()
    if errors:
        raise errors[0]


def run_here(file, output, *options):
    """The command line in this process, on the tests' Ray session; its exit status."""
    words = [str(file), "--output", str(output), "--wandb", "disabled", *options]
    return tune.main(words)
