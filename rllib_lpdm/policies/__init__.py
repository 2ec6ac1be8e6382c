"""Loads, evaluates, films, exports and verifies trained cells."""
