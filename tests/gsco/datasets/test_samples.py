"""Images inside installed packages."""

import numpy as np
import pytest

from gsco.datasets import samples
from gsco.datasets.samples import packaged_samples


def test_every_sample_is_a_picture_with_its_source_and_licence() -> None:
    found = packaged_samples()
    assert [sample.name for sample in found] == ["retina", "colon-tissue", "chest-ct", "brain-mri"]
    for sample in found:
        assert sample.image.mode == "RGB"
        assert min(sample.image.size) >= 64
        # Neither one grey nor nearly all black or white.
        assert np.asarray(sample.image).std() > 20
        assert 20 < np.asarray(sample.image).mean() < 235
        assert sample.what
        assert sample.licence
        assert "/" in sample.source


def test_bone_is_brighter_than_lung_in_the_ct() -> None:
    image = next(s.image for s in packaged_samples() if s.name == "chest-ct")
    grey = np.asarray(image.convert("L"), dtype=float)
    assert grey[40:50, 45:75].mean() > 100 > 60 > grey[10:30, 5:25].mean()


def test_a_package_without_its_file_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_locate", lambda file: None)
    assert packaged_samples() == []
