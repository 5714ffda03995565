"""A small miniature of FaceForensics++, rendered once."""

import pytest


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    pytest.importorskip("cv2")
    from dfmodels.data import write_miniature

    folder = tmp_path_factory.mktemp("miniature")
    write_miniature(folder, pairs=(2, 1, 2), frames=4, size=64, seed=3)
    return folder
