"""``python -m rllib_lpdm.experiment.dashboard``, which is in ``trackers``."""

from rllib_lpdm.experiment.trackers.dashboard import main

if __name__ == "__main__":
    raise SystemExit(main())
