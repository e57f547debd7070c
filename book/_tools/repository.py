"""Give the course another address: python book/_tools/repository.py https://github.com/OWNER/REPO

The address of the repository stands in `pyproject.toml`. This writes the new one there and wherever the old one is
quoted: in Colab links, badges, `pip install git+https://...`, and the address of the published book.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"https://github\.com/([A-Za-z0-9_-]+)/([A-Za-z0-9._-]+)")


def parse(address: str) -> tuple[str, str]:
    """Owner and name of the repository at `address`."""
    match = ADDRESS.fullmatch(address)
    if match is None or match[2].endswith(".git"):
        raise ValueError(f"The address must have the form https://github.com/OWNER/REPO; got {address!r}.")
    return match[1], match[2]


def repository(root: Path = ROOT) -> str:
    """The address that pyproject.toml names."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def text_files(root: Path = ROOT) -> dict[Path, str]:
    """Every file that git tracks and that is text."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    texts = {}
    for path in (root / name for name in names.split("\0") if name):
        try:
            texts[path] = path.read_bytes().decode("utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
    return texts


def renamed(text: str, old: tuple[str, str], new: tuple[str, str]) -> str:
    """`text` with the repository `old` called `new`; the repositories of others stay as they are."""
    end = r"(?![\w-]|\.(?!git\b)\w)"  # not a longer name; a full stop after it or .git is fine
    for form in ("{}/{}", "{}.github.io/{}", "cd {1}"):
        pattern = re.escape(form.format(*old))
        text = re.sub(rf"(?<![\w.-]){pattern}{end}", form.format(*new), text)
    return text


def main(arguments: list[str]) -> None:
    """Rewrite the files, and say which."""
    try:
        new = parse(arguments[0] if arguments else "")
    except ValueError as error:
        sys.exit(str(error))
    old = parse(repository())
    for path, text in text_files().items():
        if (changed := renamed(text, old, new)) != text:
            path.write_bytes(changed.encode("utf-8"))
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
