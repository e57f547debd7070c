"""The course quotes one address for its repository, and `make repository` changes it everywhere."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT, parse, renamed, repository, text_files

# Where an address says "this course", not "see also".
OURS = re.compile(
    r"""(?:git\+|git\ clone\ )https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?(?:[@\s"')]|$)
    |colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/
    |github\.com/([\w.-]+/[\w.-]+)/actions
    |^(?:repository-code|[ ]*url|Repository\ =):?\ "?https://github\.com/([\w.-]+/[\w.-]+?)"?$""",
    re.VERBOSE | re.MULTILINE,
)
OWNER, NAME = "ada-l", "vae.course"
NEW = f"https://github.com/{OWNER}/{NAME}"


def quoted(text: str) -> set[str]:
    """OWNER/REPO wherever `text` quotes the repository of the course."""
    return {next(filter(None, match)) for match in OURS.findall(text)}


def test_every_file_quotes_the_same_repository() -> None:
    named = "/".join(parse(repository()))
    found = {path.relative_to(ROOT).as_posix(): quoted(text) for path, text in text_files().items()}
    others = {name: names - {named} for name, names in found.items() if names - {named}}
    assert not others, f"pyproject.toml names {named}, but: {others}. `make repository URL=...` makes them agree."
    quoting = {name for name, names in found.items() if names}
    assert {"_config.yml", "pyproject.toml"} <= quoting, f"only these quote the repository: {sorted(quoting)}"
    silent = {name for name in found if name.endswith(".ipynb")} - quoting
    assert not silent, f"these notebooks do not install the course in Colab: {sorted(silent)}"


def test_ci_runs_in_the_repository_that_is_named() -> None:
    running_in = os.environ.get("GITHUB_REPOSITORY")
    if running_in is None:
        pytest.skip("not in GitHub's CI")
    named = "/".join(parse(repository()))
    assert running_in == named, (
        f"This is {running_in}, but the files name {named}: run `make repository URL=https://github.com/{running_in}`."
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks, with links to repositories that are not ours; every test leaves it as it was."""
    tmp_path = tmp_path_factory.mktemp("checkout")
    owner, name = parse(repository())
    for path in [*text_files(), Path(__file__), ROOT / "book" / "_tools" / "repository.py"]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (tmp_path / "others.md").write_text(f"https://github.com/{owner}/{name}-two and x{owner}/{name}, a/{name}.")
    (tmp_path / "ours.md").write_text(
        f"git clone https://github.com/{owner}/{name}.git\ncd {name}\n{owner}.github.io/{name}/."
    )
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff" + f"{owner}/{name}".encode())
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def rename(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "book/_tools/repository.py", *arguments]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def test_renaming_reaches_every_place_and_no_other(checkout: Path) -> None:
    before = text_files(checkout)
    picture = (checkout / "picture.png").read_bytes()
    done = rename(checkout, NEW)
    assert done.returncode == 0, done.stderr
    after = text_files(checkout)

    assert repository(checkout) == NEW
    others = {path.name: names for path, text in after.items() if (names := quoted(text) - {f"{OWNER}/{NAME}"})}
    assert not others
    old = "/".join(parse(repository()))
    changed = {path for path in before if before[path] != after[path]}
    left = [path.name for path in before if path.name != "others.md" and old in after[path]]
    assert not left, f"still quote {old}: {left}"
    assert {path.relative_to(checkout).as_posix() for path in changed} == set(done.stdout.split())
    assert (checkout / "ours.md").read_text() == f"git clone {NEW}.git\ncd {NAME}\n{OWNER}.github.io/{NAME}/."
    assert checkout / "others.md" not in changed
    assert (checkout / "picture.png").read_bytes() == picture
    for path in changed:
        if path.suffix == ".ipynb":
            json.loads(after[path])

    assert rename(checkout, repository()).returncode == 0
    assert text_files(checkout) == before, "and back again"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada/course",
        "http://github.com/ada/course",
        "https://github.com/ada",
        "https://github.com/ada/course/",
        "https://github.com/ada/course.git",
        "https://github.com/ada/course/tree/main",
        "https://gitlab.com/ada/course",
        "https://github.com/ada/my course",
    ],
)
def test_what_is_no_address_is_refused_in_one_sentence(checkout: Path, address: str) -> None:
    before = text_files(checkout)
    done = rename(checkout, address)
    assert done.returncode == 1
    assert done.stderr == f"The address must have the form https://github.com/OWNER/REPO; got {address!r}.\n"
    assert text_files(checkout) == before


def test_renaming_keeps_the_repositories_of_others() -> None:
    old, new = ("me", "course"), ("ada", "vae")
    kept = ["https://github.com/me/course2", "https://github.com/you/course", "some/course", "me/course.js", "a course"]
    assert [renamed(text, old, new) for text in kept] == kept
    moved = ["me/course", "(https://github.com/me/course)", "me/course.", "me/course.git", "me/course@main"]
    assert [renamed(text, old, new) for text in moved] == [text.replace("me/course", "ada/vae") for text in moved]
