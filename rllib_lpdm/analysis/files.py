"""Writes a report's files into a folder that others may have filled."""

from pathlib import Path


def make_folder(path: Path) -> Path:
    """The folder, made if need be; a link in its place goes, and what it names stays as it is."""
    if path.is_symlink():
        path.unlink()
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_file(path: Path, content: str | bytes) -> None:
    """Puts a whole file in the place of whatever stands there, a link too, and follows none."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with part.open("xb") as file:  # not even a link that was put there meanwhile
        file.write(content.encode() if isinstance(content, str) else content)
    part.replace(path)
