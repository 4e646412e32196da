"""Fixtures: one folder with a tiny random checkpoint for each architecture."""

from pathlib import Path

import pytest
from support.pretrained import CONFIGS, checkpoint


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: checkpoint(tmp_path_factory.mktemp("base"), config) for name, config in CONFIGS.items()}
