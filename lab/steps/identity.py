"""What the files behind a study are, by content: identities that stand in the keys of the steps that read them."""

from __future__ import annotations

import json
from pathlib import Path

from lab.config.model import PretrainedConfig
from lab.config.study import StudyConfig
from lab.config.text import CorpusConfig, TokenizerConfig
from lab.errors import InputError
from lab.hashing import digest
from lab.store.atomic import file_sha256
from lab.text import corpus
from lab.text.formats.hub import hub_revision
from lab.text.untrusted import check_untrusted_checkpoint, check_untrusted_tokenizer


def identities(config: StudyConfig) -> dict[str, str]:
    """Return the identities of the corpus, of a pretrained tokenizer and of a pretrained model, by these names.

    A known source has none: its fields say all.  Reads every byte of local files.
    """
    if not isinstance(config.corpus, CorpusConfig):
        return {}
    own = config.model if isinstance(config.model, PretrainedConfig) else None
    tokenizer = _tokenizer_identity(config.words, own.revision if own else None)
    found = {"corpus": corpus.identity(config.corpus), "tokenizer": tokenizer}
    return found | ({"model": _model_identity(own)} if own else {})


def _tokenizer_identity(config: TokenizerConfig, revision: str | None) -> str:
    """Return the hash of a local folder's tokenizer files, or a hub model's revision; empty when trained here.

    Padding and truncation in tokenizer.json are left over from the last call, and the lab takes them out.
    """
    if config.pretrained is None:
        return ""
    folder = Path(config.pretrained)
    if folder.is_dir():
        check_untrusted_tokenizer(folder)
        files = _hash_files(folder, "*.json", "merges.txt")
        if (folder / "tokenizer.json").is_file():
            settings = json.loads((folder / "tokenizer.json").read_text("utf-8"), parse_constant=str)
            files["tokenizer.json"] = digest(settings | dict.fromkeys(("padding", "truncation")))
        return digest(files)
    return hub_revision("model", config.pretrained, revision, "tokenizer.pretrained")


def _model_identity(config: PretrainedConfig) -> str:
    """Return the hash of a local folder's configuration and weights, or a hub model's revision."""
    folder = Path(config.path)
    if folder.is_dir():
        if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
            raise InputError(f"model.path {folder} holds no config.json with *.safetensors weights beside it")
        check_untrusted_checkpoint(folder)
        return digest(_hash_files(folder, "config.json", "*.safetensors"))
    return hub_revision("model", config.path, config.revision, "model.path")


def _hash_files(folder: Path, *patterns: str) -> dict[str, str]:
    files = sorted(file for pattern in patterns for file in folder.glob(pattern))
    return {file.name: file_sha256(file) for file in files}
