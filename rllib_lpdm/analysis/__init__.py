"""From a results folder to numbers. Imports no Ray."""
