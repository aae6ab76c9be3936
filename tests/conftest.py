"""Settings that every test shares."""

from hypothesis import settings

settings.register_profile("fflab", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("fflab")
