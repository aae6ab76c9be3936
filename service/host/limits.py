"""Limits of the operating system on this process."""

import resource

LEAST_STREAMS, SHARE_OF_STREAMS = 4, 8


def stream_limit(wanted: int) -> int:
    """Return how many streams to hold open: so many as wanted, at most an eighth of all files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(wanted, max(LEAST_STREAMS, soft // SHARE_OF_STREAMS))


def raise_descriptor_limit() -> int:
    """Raise the number of files and connections that may be open to the most allowed; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):  # some systems refuse what they call unlimited
            return soft
    return hard
