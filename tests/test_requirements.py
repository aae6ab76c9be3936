"""The lock files hold what pyproject.toml asks for, and no file names an index by its address."""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "requirements"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = {
    "dev.txt": {"dev"},
    "server.txt": {"worker", "postgres", "s3"},
    "tests.txt": {"tests"},
}
PYTHONS = [
    line.rpartition(" ")[2]
    for line in PROJECT["project"]["classifiers"]
    if line.startswith("Programming Language :: Python :: 3.")
]
SYSTEMS = ("linux", "darwin")
INDEX = re.compile(
    r"(pypi|pythonhosted|pytorch)\.org|index[-_]url[ =]+\S*://|://\S+/(simple|whl)\b", re.IGNORECASE
)
PLACES = ("fflab", "ffengine", "service", "workers", "benchmarks", "scripts", "tests")
TEXTS = ("docs", "examples", "requirements", ".ci")
BINARY = {".png", ".gz", ".npz", ".pyc", ".ico", ".woff2"}


class Locked(NamedTuple):
    """A line of a lock file."""

    requirement: Requirement
    version: str
    hashes: list[str]


def locked(name: str) -> dict[str, Locked]:
    """The packages of a lock file by their names."""
    text = (FOLDER / name).read_text("utf-8").replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            pin, *hashes = re.split(r" +--hash=", line.strip())
            requirement = Requirement(pin)
            [version] = requirement.specifier
            assert version.operator == "==", line
            assert canonicalize_name(requirement.name) not in found, line
            found[canonicalize_name(requirement.name)] = Locked(
                requirement, version.version, hashes
            )
    return found


def declared(extras: set[str]) -> Iterator[Requirement]:
    """What pyproject.toml asks for with these extras, those that name other extras resolved."""
    for text in PROJECT["project"]["dependencies"]:
        yield Requirement(text)
    for text in (
        text for extra in extras for text in PROJECT["project"]["optional-dependencies"][extra]
    ):
        requirement = Requirement(text)
        if requirement.name == PROJECT["project"]["name"]:
            yield from declared(set(requirement.extras))
        else:
            yield requirement


def applies(requirement: Requirement, python: str, system: str) -> bool:
    """Whether it is for this Python on this system."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": system,
        "extra": "",
    }
    return requirement.marker is None or requirement.marker.evaluate(environment)


def of_programs() -> Iterator[Requirement]:
    """What pyproject.toml asks for in the environment of programs that soak tests run."""
    return map(Requirement, PROJECT["dependency-groups"]["soak"])


def lacks(pins: dict[str, Locked], asked: Requirement, by: Requirement | None = None) -> list[str]:
    """Why the lock does not meet a requirement (of a locked package) on our Pythons."""
    cases = [
        (python, system)
        for python in PYTHONS
        for system in SYSTEMS
        if applies(asked, python, system)
    ]
    cases = [case for case in cases if by is None or applies(by, *case)]
    pin = pins.get(canonicalize_name(asked.name))
    if pin is None:
        return [f"{asked} is not locked"] if cases else []
    if cases and not asked.specifier.contains(pin.version, prereleases=True):
        return [f"{asked} does not allow the locked {pin.version}"]
    return [
        f"{asked}: not locked for {case}" for case in cases if not applies(pin.requirement, *case)
    ]


@pytest.mark.parametrize("name", EXTRAS)
def test_the_lock_meets_what_the_project_declares(name: str) -> None:
    pins = locked(name) | locked("torch.txt")
    asked = [
        *declared(EXTRAS[name]),
        *(Requirement(text) for text in PROJECT["build-system"]["requires"]),
    ]
    problems = [problem for requirement in asked for problem in lacks(pins, requirement)]
    assert not problems, f"{problems}; after a change of pyproject.toml: make lock"


def test_the_lock_of_programs_meets_what_the_project_declares() -> None:
    pins = locked("soak.txt")
    problems = [problem for asked in of_programs() for problem in lacks(pins, asked)]
    assert not problems, f"{problems}; after a change of pyproject.toml: make lock"


def test_the_lock_of_npm_meets_what_is_asked_for_and_names_no_registry() -> None:
    asked = json.loads((FOLDER / "package.json").read_text("utf-8"))["dependencies"]
    packages = json.loads((FOLDER / "package-lock.json").read_text("utf-8"))["packages"]
    assert packages.pop("")["dependencies"] == asked
    assert all(f"node_modules/{name}" in packages for name in asked)
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


@pytest.mark.parametrize("name", EXTRAS)
def test_the_lock_holds_what_its_packages_need(name: str) -> None:
    """Of those installed here in the locked version; pip refuses a package without a hash."""
    pins = locked(name) | locked("torch.txt")
    installed = {canonicalize_name(each.name): each for each in metadata.distributions()}
    same = [
        key
        for key, pin in pins.items()
        if key in installed and installed[key].version == pin.version
    ]
    assert len(same) > len(pins) / 2
    asked = [
        (Requirement(text), pins[key].requirement)
        for key in same
        for text in installed[key].requires or []
    ]
    assert not [problem for requirement, by in asked for problem in lacks(pins, requirement, by)]


@pytest.mark.parametrize("name", [*EXTRAS, "soak.txt"])
def test_every_locked_package_has_hashes(name: str) -> None:
    pins = locked(name)
    assert pins
    assert not [key for key, pin in pins.items() if not pin.hashes]
    assert all(
        re.fullmatch(r"sha256:[0-9a-f]{64}", each) for pin in pins.values() for each in pin.hashes
    )


def test_pytorch_comes_in_the_build_that_a_machine_has_an_index_for() -> None:
    """By version alone; what only its CUDA build needs is not put on machines without a GPU."""
    assert locked("torch.txt").keys() == {"torch", "torchvision"}
    assert not [key for key, pin in locked("torch.txt").items() if pin.hashes or "+" in pin.version]
    names = [key for name in EXTRAS for key in locked(name)]
    assert not [key for key in names if re.match(r"nvidia-|cuda-|triton$|torch(vision)?$", key)]


@pytest.mark.parametrize("name", EXTRAS)
def test_a_part_has_the_versions_of_the_whole(name: str) -> None:
    whole, part = locked("dev.txt"), locked(name)
    assert {key: pin.version for key, pin in part.items()}.items() <= {
        key: pin.version for key, pin in whole.items()
    }.items()


def test_the_pythons_that_are_declared_are_those_that_are_tested_and_in_the_image() -> None:
    asked = SpecifierSet(PROJECT["project"]["requires-python"])
    assert PROJECT["tool"]["tox"]["env_list"] == PYTHONS
    assert all(python in asked for python in PYTHONS)
    assert "3.10" not in asked
    [image] = re.findall(
        r"^FROM python:(\d+\.\d+)\.\d+", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE
    )
    assert image in PYTHONS


def test_make_and_the_image_install_what_is_locked() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    image = (ROOT / "Dockerfile").read_text("utf-8")
    makefile, programs = makefile.split("\nsoak-programs:")
    assert "install --quiet --require-hashes --requirement requirements/soak.txt\n" in programs
    assert "npm-cli.js ci " in programs
    for text, name in ((makefile, "dev"), (image, "server")):
        steps = re.findall(r"pip install (.*?)(?: \\)?$", text, re.MULTILINE)
        kinds = [re.sub(r"--(quiet|no-cache-dir|editable) ", "", step) for step in steps]
        assert kinds == [
            f"--require-hashes --requirement requirements/{name}.txt",
            "--requirement requirements/torch.txt",
            "--no-deps --no-build-isolation .",
        ]


@pytest.mark.slow
def test_no_file_names_a_package_index_by_its_address() -> None:
    """Who needs another one tells pip, by its settings or by the argument of the image's build."""
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    files += [
        path for place in (*PLACES, *TEXTS) for path in (ROOT / place).rglob("*") if path.is_file()
    ]
    named = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in files
        if path.suffix not in BINARY and not path.name.startswith(".coverage")
        for match in INDEX.finditer(path.read_text("utf-8", errors="replace"))
    ]
    assert not named


def test_an_address_of_an_index_would_be_found() -> None:
    host, scheme = ".".join(("pypi", "org")), "https:" + "//"
    for text in (host, f"--extra-index-url {scheme}lab/x", f"ARG ADDRESS={scheme}lab/whl/cpu"):
        assert INDEX.search(text), text
    assert not INDEX.search("ARG PIP_EXTRA_INDEX_URL")
    assert re.search(
        r"^ARG PIP_EXTRA_INDEX_URL$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE
    )


@pytest.mark.parametrize("name", EXTRAS)
def test_a_pin_has_the_extras_that_others_ask_of_it(name: str) -> None:
    """Without them pip, where it checks hashes, refuses as soon as a newer version is published."""
    pins = locked(name)
    for package in pins:
        try:
            asked = metadata.requires(package) or []
        except metadata.PackageNotFoundError:
            continue  # of another system
        for requirement in map(Requirement, asked):
            pin = pins.get(canonicalize_name(requirement.name))
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if pin and wanted and requirement.extras:
                assert requirement.extras <= pin.requirement.extras, f"{package}: {requirement}"
