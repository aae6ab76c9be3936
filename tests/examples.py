"""How many examples a test asks of hypothesis, where it asks for another number than the
profile.
"""

from hypothesis import settings

USUAL = 60  # the examples of a test that asks for no number


def examples(count: int) -> int:
    """So many under the usual profile, fewer in proportion under the one with few."""
    return max(1, count * settings().max_examples // USUAL)
