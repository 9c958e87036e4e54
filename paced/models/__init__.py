"""Language models as they lie in folders: loading, tokenizers, scoring, adapters, sharding over devices.

What belongs here serves sampling, training and evaluation alike; nothing here knows a recipe's stages.
"""

from paced.models.folder import (
    DTYPES,
    NOT_FINITE,
    Tokenizer,
    check_length,
    context_length,
    device_of,
    empty_model,
    generation_config,
    has_room,
    head,
    hidden_states,
    layers,
    load_model,
    next_logits,
    projection,
    response_hidden,
    same_tokens,
    stop_ids,
    vocabulary,
)

__all__ = [
    "DTYPES",
    "NOT_FINITE",
    "Tokenizer",
    "check_length",
    "context_length",
    "device_of",
    "empty_model",
    "generation_config",
    "has_room",
    "head",
    "hidden_states",
    "layers",
    "load_model",
    "next_logits",
    "projection",
    "response_hidden",
    "same_tokens",
    "stop_ids",
    "vocabulary",
]
