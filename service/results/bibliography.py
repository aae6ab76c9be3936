"""BibTeX of what a result is to cite: fflab, and the sources of what its spec uses."""

from collections.abc import Sequence

from ffengine.references import Reference, references_of
from ffengine.results import Provenance
from ffengine.spec import StoredSpec
from ffengine.study import Cell
from ffengine.version import RELEASED, VERSION
from service.encoding.latex import for_latex

OWN_KEY = "fflab"
AUTHORS = "{The fflab developers}"
TITLE = "{fflab}: a Lab Backend for Research on the {Forward-Forward} Algorithm"


def own_entry(provenance: Sequence[Provenance] = ()) -> str:
    """fflab as BibTeX, in the versions that computed these results; without any, as it is here."""
    programs = ", ".join(dict.fromkeys(one.program for one in provenance)) or f"fflab {VERSION}"
    versions = dict.fromkeys(one.fflab_version or one.engine_version for one in provenance)
    here = not versions or set(versions) == {VERSION}
    fields = (
        ("author", AUTHORS),
        ("title", TITLE),
        ("year", RELEASED[:4]),
        *((("date", RELEASED),) if here else ()),
        ("version", ", ".join(versions) or VERSION),
        ("note", f"{for_latex(programs)}, Apache-2.0"),
    )
    return _entry("misc", OWN_KEY, fields)


def bibtex(
    spec: StoredSpec, provenance: Sequence[Provenance] = (), cells: Sequence[Cell] | None = None
) -> str:
    """All entries: fflab, then the sources of what the spec uses.

    **Arguments:**

    - `cells`: of a study, its runs; None: all that its spec says.
    """
    runs = None if cells is None else [cell.spec for cell in cells]
    sources = references_of(spec, runs).items()
    return "\n".join([own_entry(provenance), *(_of(key, one) for key, one in sources)])


def _of(key: str, one: Reference) -> str:
    fields = (("author", one.author), ("title", one.title), ("year", str(one.year)), *one.more)
    return _entry(one.kind, key, fields)


def _entry(kind: str, key: str, fields: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f"  {name:<13} = {{{value}}},\n" for name, value in fields)
    return f"@{kind}{{{key},\n{lines}}}\n"
