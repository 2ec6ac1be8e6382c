"""What may be written in a file, checked once. This package loads neither Ray nor torch."""
