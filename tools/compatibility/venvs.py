"""One virtual environment for each release in `releases.txt`. Torch is large, so all of them see one copy of it."""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PINS = dict(re.findall(r"^([\w-]+)==(\S+)", (HERE.parent / "fixtures/requirements.txt").read_text(), re.MULTILINE))
# What each release brings for itself, and what they share.
SHARED = ["torch", "torchvision", "numpy", "pillow"]
OWN = ["jinja2", "num2words", "numpy", "pillow"]


def releases() -> list[str]:
    return (HERE / "releases.txt").read_text().split()


def python_of(root: Path, release: str) -> Path:
    """The interpreter with this release of transformers; made where it is not there yet."""
    python = root / f"transformers-{release}" / "bin/python"
    packages = [f"transformers=={release}"] + [f"{name}=={PINS[name]}" for name in OWN]
    if not complete(python, packages):
        shared = made(root / "shared")
        install(shared, [f"{name}=={PINS[name]}" for name in SHARED])
        made(python.parents[1])
        site = Path(printed(python, "import sysconfig; print(sysconfig.get_path('purelib'))"))
        (site / "shared.pth").write_text(printed(shared, "import sysconfig; print(sysconfig.get_path('purelib'))"))
        install(python, packages)
    return python


def complete(python: Path, packages: list[str]) -> bool:
    """Whether these packages, and no others, were installed to the end."""
    marker = python.parent / "complete"
    return marker.exists() and marker.read_text() == " ".join(packages)


def made(folder: Path) -> Path:
    if not (folder / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin/python"


def install(python: Path, packages: list[str]) -> None:
    if not complete(python, packages):
        print(f"installing {' '.join(packages)}", file=sys.stderr, flush=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (python.parent / "complete").write_text(" ".join(packages))


def printed(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
