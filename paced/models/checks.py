"""What of a model folder cannot be taken as it stands, each said in one line; and that all of its weights are taken.

Nothing here needs the weights themselves: the library loads the folder on the meta device, where its own renaming and
merging of tensors goes by their names and shapes.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from paced.errors import ConfigError, DataError

INDEX, SINGLE, ADAPTER = "model.safetensors.index.json", "model.safetensors", "adapter_config.json"
COUNTING = {"I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL"}  # of safetensors: positions, masks


def check_files(folder: Path) -> None:
    """That the folder is one plain model: no adapter beside it, one set of weights, a quantization that is known.

    Raises:
        DataError: with the files, or the method.
    """
    if (folder / ADAPTER).exists():
        raise DataError(
            f"model folder {folder} has an adapter beside its weights ({ADAPTER}), which would not be stored with the "
            "student: merge it (peft: merge_and_unload, save_pretrained), or move it elsewhere"
        )
    index = folder / INDEX
    if index.exists() and (folder / SINGLE).exists() and SINGLE not in weight_map(index).values():
        raise DataError(
            f"model folder {folder} has both {SINGLE} and {INDEX}, which names other files: remove the one that is out "
            "of date"
        )
    if (method := quantization(folder)) and method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise DataError(
            f"{folder / 'config.json'} names quant_method {method!r}, which transformers does not know: take the "
            "model's unquantized weights"
        )


def quantization(folder: Path) -> str:
    """How config.json says that the weights are quantized; '' if they are not."""
    config = _json(folder / "config.json")
    found: Any = config.get("quantization_config")
    if found is None and isinstance(config.get("text_config"), dict):
        found = config["text_config"].get("quantization_config")
    return str(found.get("quant_method") if isinstance(found, dict) else found) if found else ""


def weight_map(index: Path) -> dict[str, str]:
    """Which file each tensor lies in; {} if the index says nothing."""
    found: Any = _json(index).get("weight_map")
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    """Content that is not JSON, or no table of it, is left to be reported by those who need it."""
    try:
        found: Any = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def check_taken(folder: Path, report: Mapping[str, Any]) -> None:
    """That the model has taken every floating tensor of its files, and has found all of its own.

    Args:
        report: what the library tells of a load.

    Raises:
        DataError: with names and sizes.
    """
    wrong = sorted((name, tuple(found), tuple(own)) for name, found, own in report.get("mismatched_keys") or ())
    if wrong:
        name, found, own = wrong[0]
        raise DataError(
            f"model folder {folder}: {_several(len(wrong))} another size than config.json says, among them {name}: "
            f"{_size(found)} in the file, {_size(own)} in the model: weights and config.json do not belong together"
        )
    if report["missing_keys"]:  # the library would leave them at random numbers and only warn
        raise DataError(
            f"model folder {folder} lacks weights, among them {min(report['missing_keys'])}: its safetensors files are "
            "incomplete"
        )
    known = headers(folder) if report["unexpected_keys"] else {}
    left = sorted(n for n in report["unexpected_keys"] if known.get(n, ("", ()))[0] not in COUNTING)
    if left:
        size = f" ({_size(known[left[0]][1])})" if left[0] in known else ""
        raise DataError(
            f"model folder {folder}: {_several(len(left))} no place in the model that config.json describes, among "
            f"them {left[0]}{size}: they would be dropped; set architectures and model_type to those the weights are "
            "of, or remove the tensors"
        )


def _several(number: int) -> str:
    return "one tensor has" if number == 1 else f"{number} tensors have"


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def headers(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Precision and shape of every tensor of the weight files, by name.

    Raises:
        DataError: a file is missing, or damaged.
    """
    index = folder / INDEX
    names = sorted(set(weight_map(index).values())) if index.exists() else [SINGLE]
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name in names:
        if not (folder / name).exists():
            named = ", which its index names" if index.exists() else ""
            raise DataError(f"model folder {folder} lacks {name}{named}: download it again")
        try:
            with safe_open(folder / name, "pt") as file:
                for tensor in file.keys():  # noqa: SIM118 - it is no mapping
                    part = file.get_slice(tensor)
                    found[tensor] = (part.get_dtype(), tuple(part.get_shape()))
        except (SafetensorError, OSError) as error:
            raise DataError(f"{folder / name} is damaged ({error}): download it again") from None
    return found


def ignored(folder: Path, model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    """Tensors of the files that the model's own code says it leaves out, as the heads that predict further tokens."""
    rules = "|".join(model._keys_to_ignore_on_load_unexpected or ())  # pyright: ignore[reportPrivateUsage]
    if not rules:
        return {}
    return {n: size for n, (kind, size) in headers(folder).items() if kind not in COUNTING and re.search(rules, n)}


def check_ends(folder: Path, ends: int | list[int] | None, last: int) -> None:
    """That each id which the configuration says to end a response is that of a token.

    Args:
        ends: ``eos_token_id``.
        last: the tokenizer's last id.

    Raises:
        DataError: with the id.
    """
    for end in [ends] if isinstance(ends, int) else ends or ():
        if not 0 <= end <= last:
            raise DataError(
                f"model folder {folder}: eos_token_id {end} of its generation configuration is no token's (the ids go "
                f"from 0 to {last}): set it to the end-of-sequence token's in generation_config.json and config.json"
            )


def check_attention(folder: Path, config: PreTrainedConfig) -> None:
    """That the library has sdpa attention for the architecture, which is what loads, scores and trains models here.

    Raises:
        ConfigError: with the architecture.
    """
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kind is not None and not isinstance(kind, tuple) and not kind._supports_sdpa:
        raise ConfigError(
            f"model {folder}: transformers {transformers.__version__} has no sdpa attention for {kind.__name__}, which "
            "models are loaded, scored and trained with here: it is not supported"
        )


@torch.no_grad()
def logit_divisor(name: str, own: torch.Tensor, products: torch.Tensor, config: Any) -> float:
    """What the model divides its output projection's products [N, V] by to get its logits [N, V]; 1 for most.

    A number of its configuration, or one over it (Granite divides, Cohere multiplies): found by trying them, for the
    same name means the one in some models and the other in others.

    Raises:
        ConfigError: no number gives the logits.
    """
    own, products = own.float(), products.float()
    if torch.allclose(own, products, atol=1e-3, rtol=1e-2):
        return 1.0
    ratio = float((own * products).sum() / products.square().sum())
    numbers = [float(v) for v in vars(config).values() if isinstance(v, int | float) and v]
    tried = sorted((n for v in numbers for n in (v, 1 / v)), key=lambda n: abs(ratio * n - 1))
    if tried and torch.allclose(own, products / tried[0], atol=1e-3, rtol=1e-2):
        return tried[0]
    raise ConfigError(
        f"model {name}: its logits are not its output projection of its hidden states, nor that times a number of its "
        "configuration, which is not supported"
    )
