"""The results folder: what its files are called and hold, how they are written, read and stored.

Everything else reads and writes results through here. Nothing here needs Ray, torch or gymnasium.
"""
