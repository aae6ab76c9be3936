"""Measurements of fflab beside bare products and the usual way, in one run on the same tensors."""

import ffengine  # noqa: F401 - before torch is loaded, so that threads wait as in a user's program
