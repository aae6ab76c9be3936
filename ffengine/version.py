"""The version of the package, which every release raises, and that of the figures."""

VERSION = "0.2.0"

# Names a set of figures: what has another is neither answered from the cache nor gone on with from
# a checkpoint. It has the form of a version because the two were one until 0.2.0;
# tests/engine/test_pinned_figures.py fails where figures change and it does not.
NUMERICS_VERSION = "0.2.0"

ENGINE_VERSION = (
    NUMERICS_VERSION  # its name in results, `provenance.engine_version`, and among the public names
)
