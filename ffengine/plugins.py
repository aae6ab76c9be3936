"""Plug-ins: packages whose entries are in the catalogues beside fflab's own.

A package names its entries under entry points, such as `fflab.negatives`. They are loaded once in
a process, in sorted order, before the first spec is built. A plug-in is code that whoever keeps the
installation has installed; nothing is ever loaded from a request or an upload. Nothing here imports
torch, and neither may the modules that entry points name: the service has none.
"""

import hashlib
import inspect
import logging
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from ffengine.activations import ACTIVATIONS, Activation
from ffengine.additions import ADDED, Catalogue
from ffengine.entry import Entry, entries, is_constant, meaning_of, name_of
from ffengine.inits import INITS, Init
from ffengine.negatives import AnyNegatives, Negatives
from ffengine.objectives import AnyObjective, Goodness, GoodnessEntry, MultiClass, Objective
from ffengine.optimizers import AnyOptimizer, Optimizer
from ffengine.results import PluginUse
from ffengine.text import shortened, visible

log = logging.getLogger(__name__)
Read = TypeVar("Read")

GROUPS: dict[str, Catalogue] = {f"fflab.{catalogue}": catalogue for catalogue in ADDED}
PRESETS, PRESET_GROUP = "presets", "fflab.presets"
NAME = re.compile(r"[a-z][a-z0-9_]*")
PRESET_NAME = re.compile(r"[a-z][a-z0-9-]*")
VALUE = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")
LONGEST_REASON = 400  # what an import raises may be as long as it likes
CODE = (".py", ".so", ".pyd")
# the field of a spec that has the bare name of an entry
NAMED_BY: Mapping[str, str] = {"activation": "activations", "init": "inits", "preset": PRESETS}


class ClassCatalogue(NamedTuple):
    """A catalogue whose entries are classes: its union, their bases and the field of their name."""

    entries: Any
    bases: tuple[type[Entry], ...]  # an entry inherits from one of them
    discriminator: str


UNIONS: dict[Catalogue, ClassCatalogue] = {
    "negatives": ClassCatalogue(AnyNegatives, (Negatives,), "strategy"),
    "objectives": ClassCatalogue(AnyObjective, (Objective, MultiClass), "name"),
    "goodness": ClassCatalogue(GoodnessEntry, (Goodness,), "name"),
    "optimizers": ClassCatalogue(AnyOptimizer, (Optimizer,), "name"),
}


class PluginFault(BaseModel):
    """An entry of a plug-in that is not in the catalogue, or is with a drawback, and why."""

    package: str
    version: str
    catalogue: str
    name: str
    reason: str
    refused: bool = True

    @property
    def line(self) -> str:
        """The fault in one line."""
        return f"{self.package} {self.version}: {self.catalogue} {self.name}: {self.reason}"


class _Refused(Exception):
    """An entry does not keep what a catalogue needs of it; the message says what."""


class Registry:
    """The plug-ins that this process has loaded.

    **Attributes:**

    - `faults`: what is wrong with entries of installed plug-ins.
    """

    faults: list[PluginFault]

    def __init__(self) -> None:
        self.faults = []
        self._packages: dict[str, tuple[str, str]] = {}  # version, digest of the code
        self._owner: dict[tuple[str, str], str] = {}

    @property
    def plugins(self) -> list[PluginUse]:
        """All plug-ins of which an entry is in a catalogue, by name."""
        return self._with_entries(self._owner)

    def load(self, points: Iterable[EntryPoint]) -> None:
        """Put the entries of entry points into the catalogues, or note why not."""
        found = sorted(points, key=lambda point: (_package(point), point.group, point.name))
        claims = defaultdict(list)
        for point in found:
            claims[point.group, point.name].append(_package(point))
        for point in found:
            self._add(point, sorted(set(claims[point.group, point.name])))
        if ADDED["goodness"]:
            for objective in entries(AnyObjective):  # they were built when none was added
                objective.model_rebuild(force=True)

    def load_presets(
        self, points: Iterable[EntryPoint], own: Collection[str], read: Callable[[Any], Read]
    ) -> dict[str, Read]:
        """Return the presets of entry points by their names, or note why not.

        They are loaded after specs can be built, which their modules may therefore import.

        **Arguments:**

        - `points`: the entry points.
        - `own`: the names of fflab's own presets.
        - `read`: makes a preset of what an entry point names; it raises ValueError.
        """
        ordered = sorted(points, key=lambda point: (_package(point), point.name))
        found = {}
        for point in ordered:
            claimed_by = sorted({_package(one) for one in ordered if one.name == point.name})
            try:
                _refuse_name(PRESET_NAME, point.name, own, claimed_by)
                found[point.name] = read(_imported(point))
                self._own(point, PRESETS, _code_digest(point.module))
            except (_Refused, ValueError) as error:
                found.pop(point.name, None)
                self._note(point, str(error))
        return found

    def _own(self, point: EntryPoint, catalogue: str, digest: str) -> None:
        """Note of which package an entry is."""
        package = _package(point)
        self._packages[package] = _version(point), digest
        self._owner[catalogue, point.name] = package

    def owner(self, catalogue: str, name: str) -> PluginUse | None:
        """Return the plug-in that an entry is of; None: it is one of fflab's own.

        **Arguments:**

        - `catalogue`: the catalogue.
        - `name`: of the entry.
        """
        if (catalogue, name) not in self._owner:
            return None
        return self._with_entries([(catalogue, name)])[0]

    def used_by(self, spec: BaseModel) -> tuple[PluginUse, ...]:
        """Return the plug-ins that a spec uses, with the entries that it uses.

        **Arguments:**

        - `spec`: a spec, or a part of one.

        **Returns:**

        By name; none of a study's grid, whose cells are specs of their own.
        """
        if not self._owner:
            return ()
        named = {one for one in _names_in(spec) if one in self._owner}
        return tuple(self._with_entries(sorted(named)))

    def missing_in(self, spec: BaseModel) -> tuple[str, ...]:
        """Return the entries of a stored spec whose plug-in is not installed.

        **Arguments:**

        - `spec`: a spec, or a part of one.

        **Returns:**

        Each as CATALOGUE.NAME, in order.
        """
        known: dict[str, set[str]] = {
            catalogue: {*_own_names(catalogue), *ADDED[catalogue]} for catalogue in ADDED
        }
        named = {
            f"{where}.{name}"
            for where, name in _names_in(spec)
            if where in known and name not in known[where]  # a study is written out without presets
        }
        return tuple(sorted(named))

    def why_refused(self, catalogue: str, name: str) -> str | None:
        """Return why a name that a plug-in claims is not in a catalogue; None: nobody claims it."""
        found = [
            fault
            for fault in self.faults
            if fault.refused and (fault.catalogue, fault.name) == (catalogue, name)
        ]
        return "; ".join(fault.line for fault in found) or None

    def _with_entries(self, named: Iterable[tuple[str, str]]) -> list[PluginUse]:
        of_package = defaultdict(list)
        for catalogue, name in named:
            of_package[self._owner[catalogue, name]].append(f"{catalogue}.{name}")
        return [
            PluginUse(
                package=package,
                version=self._packages[package][0],
                code_digest=self._packages[package][1],
                entries=tuple(sorted(of_package[package])),
            )
            for package in sorted(of_package)
        ]

    def _add(self, point: EntryPoint, claimed_by: list[str]) -> None:
        """Load one entry point, and put its entry into its catalogue."""
        catalogue = GROUPS[point.group]
        had_torch = "torch" in sys.modules
        try:
            _refuse_name(NAME, point.name, _own_names(catalogue), claimed_by)
            entry = _loaded(point, catalogue)
            digest = _code_digest(point.module)
        except _Refused as refusal:
            self._note(point, str(refusal))
            return
        if "torch" in sys.modules and not had_torch:
            self._note(
                point,
                f"importing {point.module} imports torch, which takes seconds and memory in each "
                "process of the service; import it in the methods that need it",
                refused=False,
            )
        ADDED[catalogue][point.name] = entry
        if catalogue == "activations":
            ACTIVATIONS[point.name] = entry
        elif catalogue == "inits":
            INITS[point.name] = entry  # type: ignore[index]
        self._own(point, catalogue, digest)

    def _note(self, point: EntryPoint, reason: str, *, refused: bool = True) -> None:
        self.faults.append(
            PluginFault(
                package=_package(point),
                version=_version(point),
                catalogue=GROUPS.get(point.group, PRESETS),
                name=point.name,
                reason=shortened(visible(reason), LONGEST_REASON),
                refused=refused,
            )
        )


REGISTRY = Registry()


def load_plugins() -> None:
    """Load what is installed. Only the first call does something: ffengine.spec makes it."""
    if not _loaded_once:
        _loaded_once.append(True)
        installed = entry_points()
        REGISTRY.load(point for group in GROUPS for point in installed.select(group=group))


_loaded_once: list[bool] = []


def log_plugins() -> None:
    """Log the plug-ins of this process, and what is wrong with their entries: a line each."""
    for plugin in REGISTRY.plugins:
        log.info("plug-in %s %s: %s", plugin.package, plugin.version, ", ".join(plugin.entries))
    for fault in REGISTRY.faults:
        log.warning("plug-in %s", fault.line)


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else re.split("[.:]", point.value)[0]


def _version(point: EntryPoint) -> str:
    return point.dist.version if point.dist else "unknown"


def _refuse_name(
    form: re.Pattern[str], name: str, own: Collection[str], claimed_by: list[str]
) -> None:
    """Raise _Refused where a name cannot be that of a new entry."""
    if not form.fullmatch(name):
        join = "_" if form is NAME else "-"
        raise _Refused(f"{name!r} is not a name of an entry; use small letters, digits and {join}")
    if name in own:
        raise _Refused("fflab has an entry of this name, which stays; choose another name")
    if len(claimed_by) > 1:
        raise _Refused(f"{' and '.join(claimed_by)} both have an entry of this name; remove one")


@cache
def _own_names(catalogue: Catalogue) -> frozenset[str]:
    """The names of fflab's own entries of a catalogue."""
    if catalogue == "activations":
        return frozenset(ACTIVATIONS) - frozenset(ADDED[catalogue])
    if catalogue == "inits":
        return frozenset(map(str, INITS)) - frozenset(ADDED[catalogue])
    union = UNIONS[catalogue]
    own = (one for one in entries(union.entries) if one not in ADDED[catalogue].values())
    return frozenset(name_of(entry, union.discriminator) for entry in own)


def _imported(point: EntryPoint) -> Any:
    """Return what an entry point names. Raises _Refused."""
    if not VALUE.fullmatch(point.value):
        raise _Refused(f"{point.value!r} names no entry; write MODULE:NAME")
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # a plug-in may raise anything
        said = (str(error).strip().splitlines() or [""])[0]
        if "partially initialized" in said:
            said += "; a module that an entry point names imports no ffengine.spec, and no fflab"
        raise _Refused(f"cannot be imported: {type(error).__name__}: {said}") from error


def _loaded(point: EntryPoint, catalogue: Catalogue) -> Any:
    """Return the entry of an entry point. Raises _Refused."""
    found = _imported(point)
    if catalogue == "activations":
        return _activation(found, point.name)
    if catalogue == "inits":
        if not isinstance(found, Init):
            raise _Refused(f"{point.value} is no ffengine.inits.Init")
        return found
    return _class(found, point, UNIONS[catalogue])


def _activation(found: object, name: str) -> Activation:
    if inspect.isclass(found) and issubclass(found, Activation):
        if inspect.isabstract(found):
            raise _Refused(f"{found.__name__} lacks {_abstract(found)}")
        found = found()
    if not isinstance(found, Activation):
        raise _Refused("it is no ffengine.activations.Activation")
    if getattr(found, "name", None) != name:
        raise _Refused(f"its own name is {getattr(found, 'name', None)!r}; write the same in both")
    _refuse_heir(type(found), [type(own) for own in ACTIVATIONS.values()], Activation)
    return found


def _class(found: object, point: EntryPoint, union: ClassCatalogue) -> type[Entry]:
    """Return an entry that is a class, if it is one of its catalogue. Raises _Refused."""
    if not (inspect.isclass(found) and issubclass(found, union.bases)):
        named = " or ".join(f"{base.__module__}.{base.__name__}" for base in union.bases)
        raise _Refused(f"{point.value} is no subclass of {named}")
    base = next(base for base in union.bases if issubclass(found, base))
    if inspect.isabstract(found):
        raise _Refused(f"{found.__name__} lacks {_abstract(found)}")
    everywhere = [one for some in UNIONS.values() for one in entries(some.entries)]
    _refuse_heir(found, [one for one in everywhere if issubclass(one, base)], base)
    field = found.model_fields.get(union.discriminator)
    if field is None or not is_constant(field.annotation) or field.default != point.name:
        line = f'{union.discriminator}: Literal["{point.name}"] = "{point.name}"'
        raise _Refused(f"{found.__name__} needs the field {line}")
    if found.__name__ in {one.__name__ for one in everywhere}:
        raise _Refused(f"another entry's class is called {found.__name__}; choose another name")
    if not meaning_of(found) or found.__doc__ == base.__doc__:
        raise _Refused(f"{found.__name__} has no docstring, which is its meaning in the catalogue")
    try:
        found()
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise _Refused(f"{found.__name__}.{where} needs a valid default") from error
    return found


def _refuse_heir(found: type, own: Iterable[type], base: type) -> None:
    """Raise _Refused for a subclass of a complete entry: fflab would take it for that one."""
    for entry in own:
        if issubclass(found, entry):
            raise _Refused(
                f"{found.__name__} inherits from the entry {entry.__name__}, for which fflab would "
                f"take it; inherit from {base.__name__}"
            )


def _abstract(found: type) -> str:
    return ", ".join(sorted(getattr(found, "__abstractmethods__", ())))


def _names_in(part: object) -> Iterator[tuple[str, str]]:
    """All names of entries that a part of a spec has, each with its catalogue."""
    if isinstance(part, Mapping):
        part = tuple(part.values())
    if isinstance(part, tuple | list):
        for one in part:
            yield from _names_in(one)
    if not isinstance(part, BaseModel):
        return
    for catalogue, union in UNIONS.items():
        if isinstance(part, union.bases):
            yield catalogue, str(getattr(part, union.discriminator))
    for field in type(part).model_fields:
        value = getattr(part, field)
        if field in NAMED_BY and isinstance(value, str):
            yield NAMED_BY[field], value
        elif not isinstance(value, str | int | float):
            yield from _names_in(value)


def _code_digest(module: str) -> str:
    """Return the sha256 of the code of the package that a module is in.

    Two installations may have one version and other code, as an editable one has.
    """
    top = sys.modules[module.partition(".")[0]]
    folders = [Path(folder) for folder in getattr(top, "__path__", ())]
    files = [(path.relative_to(one).as_posix(), path) for one in folders for path in _code(one)]
    if not folders and top.__file__:
        files = [(Path(top.__file__).name, Path(top.__file__))]
    digest = hashlib.sha256()
    for name, path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{name}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


def _code(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix in CODE and path.is_file())
