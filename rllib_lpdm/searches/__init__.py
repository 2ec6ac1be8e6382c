"""An experiment file's ``search``: settings found with equal budgets, by generations of cells."""
