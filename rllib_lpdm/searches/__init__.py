"""Searches settings with equal budgets for all methods, by generations of cells."""
