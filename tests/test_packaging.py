from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import vlad_lightning

ROOT = Path(vlad_lightning.__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    Requirement(text)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in group
]


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.partition(";")[0].strip().split("==") for line in lines]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_constraints_are_exact_versions_without_addresses() -> None:
    pattern = re.compile(r"[a-z0-9][a-z0-9._-]*==[0-9][0-9a-z.+!-]*( ; [^:@/]+)?")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    assert [line for line in lines if not pattern.fullmatch(line)] == []


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda r: r.name)
def test_every_dependency_has_a_pin_that_fits(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("lightning", "2.6.3"),
        ("lightning", "2.6.5"),
        ("torch", "2.9"),
        ("transformers", "5.2"),
        ("diffusers", "0.38.0"),
        ("Pillow", "12.2"),
        ("jsonargparse", "4.52"),
        ("paddleocr", "3.6"),
        ("torchmetrics", "1.8"),
    ],
)
def test_versions_below_the_floors_are_refused(name: str, version: str) -> None:
    (requirement,) = [requirement for requirement in REQUIREMENTS if requirement.name == name]
    assert not requirement.specifier.contains(version)


def test_every_dependency_is_justified() -> None:
    record = (ROOT / "docs" / "decisions" / "0001-dependencies.md").read_text()
    named = set(re.findall(r"[A-Za-z0-9_-]+", "\n".join(line for line in record.splitlines() if line.startswith("| "))))
    run_time = {Requirement(text).name for text in PROJECT["dependencies"]}
    assert run_time - named == set()


def test_license_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.lstrip().startswith("Apache License\n                           Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"


def documented_targets() -> set[str]:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {line.split()[1] for line in listed.splitlines()}


def test_make_help_lists_the_commands() -> None:
    assert documented_targets() >= {"help", "setup", "demo", "test", "lint", "bench", "ablations", "clean"}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_make_commands_named_in_the_documents_exist(name: str) -> None:
    named = {
        word
        for line in re.findall(r"^ *(?:time )?make [^#\n]*|`make [^`]*`", (ROOT / name).read_text(), flags=re.MULTILINE)
        for word in line.strip("` ").removeprefix("time ").split()[1:]
        if "=" not in word
    }
    assert named
    assert named <= documented_targets()


def test_pre_commit_calls_only_local_tools() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    assert {hook["entry"].split()[0] for hook in config["repos"][0]["hooks"]} == {
        ".venv/bin/ruff",
        ".venv/bin/mypy",
        ".venv/bin/lint-imports",
    }


def test_changelog_has_an_unreleased_section_or_this_version() -> None:
    headings = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0] == vlad_lightning.__version__


def test_processes_that_tests_start_are_not_traced() -> None:
    """A Ctrl-C that reaches coverage's tracer leaves its lock taken, and the process hangs at the next function."""
    code = "import sys; sys.exit('coverage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
