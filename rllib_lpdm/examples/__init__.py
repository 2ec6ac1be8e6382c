"""Runnable examples of the paper's discussion (section 5): ``python -m rllib_lpdm.examples.NAME``.

``transfer``, ``pretraining``, ``black_box`` and ``images`` each train for about a minute on one
core, and print a table that compares with the plain run.
"""
