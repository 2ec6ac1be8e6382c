"""From an experiment file to trials to a results folder."""
