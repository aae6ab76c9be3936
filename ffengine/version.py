"""The version of the package, which every release raises, and that of the figures."""

VERSION = "0.2.0"
RELEASED = "2026-11-25"  # the day of this version, as in CITATION.cff and CHANGELOG.md

# Names a set of figures. A result or checkpoint with another NUMERICS_VERSION is not reused. It has
# the form of a version because it was the package's version until 0.2.0.
# tests/engine/test_pinned_figures.py fails where figures change and this does not.
NUMERICS_VERSION = "0.3.0"

# The same for figures on uploads, which a rule may change that those of the catalogue do not obey:
# how partitions are drawn, and how strong label inputs are (docs/numerics.md).
UPLOADS_VERSION = f"{NUMERICS_VERSION}+uploads.2"

# The public name, as in `provenance.engine_version` of results.
ENGINE_VERSION = NUMERICS_VERSION
