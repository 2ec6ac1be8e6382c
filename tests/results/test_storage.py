"""Where results are kept."""

from pathlib import Path, PosixPath

import pytest
from upath import UPath

from rllib_lpdm.results.storage import is_remote, write_whole


class CloudPath(PosixPath):
    """A Path with a protocol, as universal_pathlib once made of URLs."""

    protocol = "s3"


@pytest.mark.parametrize(
    ("folder", "remote"),
    [
        (Path("/results"), False),
        (UPath("/results"), False),
        (UPath("file:///results"), True),
        (UPath("memory://results"), True),
        (CloudPath("/results"), True),
    ],
)
def test_what_has_a_protocol_is_remote(folder, remote):
    assert is_remote(folder) is remote


def test_a_file_is_replaced_whole_and_a_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"theirs")
    (tmp_path / "file").symlink_to(tmp_path / "target")
    write_whole(tmp_path / "file", b"ours")
    assert (tmp_path / "file").read_bytes() == b"ours"
    assert (tmp_path / "target").read_bytes() == b"theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "target"]
