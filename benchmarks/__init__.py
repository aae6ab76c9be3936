"""Measurements of fflab beside bare products and the usual way, in one run on the same tensors."""
