"""``python -m rllib_lpdm.dashboard``, which is in ``trackers``."""

from rllib_lpdm.grid.trackers.workspace import main

if __name__ == "__main__":
    raise SystemExit(main())
