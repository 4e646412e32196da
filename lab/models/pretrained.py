"""Networks read from a folder with transformers, whose import takes seconds: load.py imports this only when needed.

Only weights and settings are read, as JSON and safetensors: no pickle, and no code that the folder holds.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from lab.errors import InputError
from lab.models import counting
from lab.models.causal import Causal
from lab.models.gpt2 import Gpt2
from lab.text.tokenizer import quietly
from lab.text.untrusted import check_untrusted_checkpoint, config_of, is_old_mask, weights_in

KINDS = frozenset(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
"""Every model_type that AutoModelForCausalLM knows without code from elsewhere."""


def load_network(folder: Path, device: str | torch.device, *, decoding: str) -> Causal:
    """Read the network of a local folder.

    `decoding` is the dtype of a GPT-2's matrix products when it samples; scoring is float32.

    Raises:
        InputError: the folder holds no network that the lab can use.
    """
    kind = config_of(folder).get("model_type")
    if kind not in KINDS:
        raise InputError(
            f'{folder} holds a model of type "{kind}"; known: {", ".join(counting.KINDS)}, gpt2, llama, opt and '
            "every other causal language model of the installed transformers"
        )
    module = read(folder, device)
    if Gpt2.serves(module):
        return Gpt2(module, decoding=decoding)
    model = Causal(module)
    model.check(str(folder))
    return model


def read(folder: Path, device: str | torch.device) -> PreTrainedModel:
    """Return transformers' model of a local folder, in float32.

    Raises:
        InputError: the folder is incomplete, or holds more than plain data.
    """
    check_untrusted_checkpoint(folder)
    _check_size(folder)
    try:
        with quietly():
            module, report = AutoModelForCausalLM.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                # Given here, so that config.json cannot name a kernel of the hub.  On a CPU, attention by plain matrix
                # products trains a small Llama 1.5 times as fast as torch's fused kernel, and samples 2.2 times.
                attn_implementation="eager" if torch.device(device).type == "cpu" else "sdpa",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
            )
    except Exception as error:  # transformers raises errors of many types on a broken file
        raise _unloadable(folder, error) from error
    unknown = [key for key in report["unexpected_keys"] if not is_old_mask(folder, key)]
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if keys := unknown if what == "unexpected_keys" else report[what]:
            names = ", ".join(sorted(key if isinstance(key, str) else str(key[0]) for key in keys)[:3])
            raise InputError(
                f"the weights in {folder} are not those that its config.json describes: {len(keys)} "
                f"{what.replace('_', ' ')}, such as {names}; get the model again"
            )
    return module.to(device)


def _check_size(folder: Path) -> None:
    """Check, before memory is taken, that config.json does not describe a model far larger than the weights.

    Raises:
        InputError: it does, or transformers cannot read it.
    """
    try:
        with quietly(), torch.device("meta"):
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            described = AutoModelForCausalLM.from_config(config, trust_remote_code=False).num_parameters()
    except Exception as error:  # transformers raises errors of many types on strange settings
        raise _unloadable(folder, error) from error
    held = weights_in(folder)
    if described > 4 * held + 10**6:
        raise InputError(
            f"{folder}/config.json describes a model of {described:,} parameters, and its weights hold {held:,}: get "
            "the model again"
        )


def _unloadable(folder: Path, error: Exception) -> InputError:
    return InputError(f"{folder} cannot be loaded: {type(error).__name__}: {str(error)[:300]}")
