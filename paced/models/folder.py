"""Models and tokenizers as folders: loading, checking, and the teacher-forced forward pass.

Shapes: B sequences, T padded tokens, N response tokens of a batch, H hidden size, V ids the tokenizer knows.
Ids at or above V are padding rows of the embedding (Qwen3 has some, so has the tiny world): they are cut off on both
sides everywhere, so a distribution here always sums to 1 over V.
"""

import contextlib
import functools
import json
import math
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging

from paced.config import Model, Runtime
from paced.errors import ConfigError, DataError
from paced.losses import Projection
from paced.models.checks import check_attention, check_files, check_taken, headers, logit_divisor
from paced.models.control import MARK, ControlTokens, unmarked
from paced.storage.identity import TOKENIZER_FILES, digest, file_digest

logging.disable_progress_bar()  # stages report progress themselves

NOT_FINITE = "the model's logits are not finite: its weights are damaged, or overflow in this dtype"
ASKED = ("What is 1 + 1?", "Name a prime.")  # two questions, for which a template must write two prompts
ACTIVATIONS = 4 * 2**30  # bytes that the activations and logits of a forward pass may take
DIVISOR = "logit_divisor"  # what ``load_model`` has found the model's logits to be divided by
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def device_of(runtime: Runtime) -> torch.device:
    """The device to compute on; also sets the thread count, on which CPU results depend to the last bit.

    Raises:
        ConfigError: cuda was asked for and there is none.
    """
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("runtime.device: cuda was asked for, but torch sees no CUDA device: use auto or cpu")
    use_cuda = runtime.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_cuda else "cpu")


@contextlib.contextmanager
def _loading(folder: Path, what: str) -> Generator[None]:
    """Whatever the libraries raise over a broken folder, each in its own way, becomes one line."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"the {what} in model folder {folder} cannot be loaded: {reason}") from None


@contextlib.contextmanager
def _silent() -> Generator[None]:
    """Without the library's warnings."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


class Tokenizer:
    """A Hugging Face tokenizer with what the method needs of it checked once.

    Raises:
        DataError: the folder has no tokenizer, an unreadable one, no chat template or no end-of-sequence token.
    """

    def __init__(self, folder: Path, trust_remote_code: bool = False, thinking: bool | None = None):
        if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
            raise DataError(f"model folder {folder} has no tokenizer: copy its files beside the weights")
        with _loading(folder, "tokenizer"):
            core = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
        self.core: PreTrainedTokenizerBase = core
        self._mode: dict[str, bool] = {} if thinking is None else {"enable_thinking": thinking}
        self._control = ControlTokens(core)
        self.folder = folder
        if not core.chat_template:
            raise DataError(
                f"model folder {folder} has no chat template: add chat_template.jinja, or use the instruct version of "
                "the model"
            )
        if core.eos_token_id is None:
            raise DataError(f"the tokenizer in {folder} has no end-of-sequence token: set eos_token in its config")
        self.eos: int = core.eos_token_id
        ids = core.get_vocab()
        # More than there are tokens if ids are left out; but fewer where the model has no row for the last (Gemma 3 1B,
        # whose tokenizer has the <image_soft_token> of its larger kin).
        last = max(ids.values()) + 1
        self.size = min(last, vocabulary(folder) or last)
        self.whole = self.size == last
        self.token_map: str = digest(ids)
        files = sorted(file for pattern in TOKENIZER_FILES for file in folder.glob(pattern))
        # What decides the prompts that it writes, but for a clock.
        self.about: dict[str, Any] = {"thinking": thinking, **self.bound} | {f.name: file_digest(f) for f in files}

    @property
    def bound(self) -> dict[str, int]:
        """The number of known ids where the model has no row for the last; the token map tells it of all others."""
        return {} if self.whole else {"known": self.size}

    @functools.cached_property
    def begins(self) -> list[int]:
        """The ids that the tokenizer puts in front of every text (Gemma's <bos>), unless told not to."""
        plain, whole = self._encode("a"), self._encode("a", add_special_tokens=True)
        first = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
        return whole[:first]

    def marked(self, text: str) -> str:
        """A text from outside, in which what looks like a control token is told from the model's own."""
        return self._control.marked(text)

    def prompt(self, messages: str) -> list[int]:
        """Token ids of a prompt, given as chat messages in JSON, ready for the assistant's turn."""
        return self.encode(self.text_of(messages))

    def text_of(self, prompt: str) -> str:
        """What the model reads: JSON chat messages rendered, a JSON string as it stands; control tokens in it marked.

        Raises:
            DataError: see ``written``.
        """
        content = json.loads(prompt)
        if isinstance(content, str):
            return self.marked(content)
        return self.written(content, add_generation_prompt=True)

    def written(self, messages: Sequence[Mapping[str, str]], now: datetime | None = None, **options: Any) -> str:
        """A conversation as the chat template writes it.

        Args:
            now: what the template takes for the time, if it asks for that.
            options: of the library's ``apply_chat_template``.

        Raises:
            DataError: the template cannot write it, or leaves out what the user says.
        """
        return self._written(messages, self._in_parts, now, **options)

    @functools.cached_property
    def _in_parts(self) -> bool:
        """Whether the template wants content as a list of parts, as those of models that read images too may do."""
        faults: list[str] = []
        for parts in (False, True):
            try:
                found = [self._written([{"role": "user", "content": asked}], parts, None) for asked in ASKED]
            except DataError as error:
                faults.append(str(error))
                continue
            if all(asked in text for asked, text in zip(ASKED, found, strict=True)):
                return parts
            faults.append(f"the chat template of {self.folder} writes {unmarked(found[0])[:60]!r} for {ASKED[0]!r}")
        raise DataError(f"{faults[0]}: prompts would not hold the question; use the template of the model's training")

    def _written(
        self, messages: Sequence[Mapping[str, str]], parts: bool, now: datetime | None, **options: Any
    ) -> str:
        def content(text: str) -> str | list[dict[str, str]]:
            marked = self.marked(text)
            return [{"type": "text", "text": marked}] if parts else marked

        if now:  # shadows the template language's own clock
            options["strftime_now"] = now.strftime
        conversation: Any = [{**message, "content": content(message["content"])} for message in messages]
        try:
            return str(self.core.apply_chat_template(conversation, tokenize=False, **self._mode, **options))
        except Exception as error:  # a template is a program, and may raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise DataError(
                f"the chat template of {self.folder} cannot write the conversation that begins "
                f"{messages[0]['content'][:60]!r} ({reason})"
            ) from None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, no special token added.

        Raises:
            DataError: it has a token that the model has no row for.
        """
        ids = self._control.encoded(text, self._encode) if MARK in text else self._encode(text)
        if ids and max(ids) >= self.size:
            raise DataError(
                f"the model in {self.folder} has no row for token {self.core.convert_ids_to_tokens(max(ids))!r}, which "
                f"is in {text[:60]!r}: remove the problem"
            )
        return ids

    def _encode(self, text: str, **options: bool) -> list[int]:
        chosen: Any = {"add_special_tokens": False, **options}
        return self.core(text, **chosen)["input_ids"]  # pyright: ignore[reportReturnType]

    def text(self, ids: Sequence[int]) -> str:
        """The text of a response, given without the token that ended it; a special token inside it stays to be seen."""
        return str(self.core.decode(list(ids), skip_special_tokens=False))


def generation_config(folder: Path, trust_remote_code: bool = False) -> GenerationConfig:
    """What a loaded model has as ``generation_config``, without loading the model."""
    with _loading(folder, "generation configuration"):
        if (folder / "generation_config.json").exists():
            return GenerationConfig.from_pretrained(folder)
        core = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
        return GenerationConfig.from_model_config(core)


def stop_ids(config: GenerationConfig | None, tokenizer: Tokenizer) -> list[int]:
    """Every id that ends a response, whichever engine draws it: the tokenizer's, and those that ``config`` adds."""
    extra = config.eos_token_id if config else None
    return sorted({tokenizer.eos, *([extra] if isinstance(extra, int) else extra or [])})


def _configured(folder: Path, name: str) -> Any:
    """A number of the language model's configuration; its class's own where the file leaves it out (Gemma 3 4B)."""
    core = json.loads((folder / "config.json").read_text())
    core = core.get("text_config", core)
    if name in core or core.get("model_type") not in CONFIG_MAPPING:
        return core.get(name)
    return getattr(CONFIG_MAPPING[core["model_type"]].from_dict(core), name, None)


def vocabulary(folder: Path) -> int:
    """How many ids the model's output has, its padding rows included; 0 if its configuration does not say."""
    with _loading(folder, "configuration"):
        return int(_configured(folder, "vocab_size") or 0)


def same_tokens(student: Tokenizer, teacher: Tokenizer) -> None:
    """Refuse a teacher whose ids mean other tokens: its distributions would be over another vocabulary.

    Raises:
        ConfigError: with the first token on which the two maps differ.
    """
    if student.token_map == teacher.token_map:
        return
    a, b = student.core.get_vocab(), teacher.core.get_vocab()
    token = min(t for t in a.keys() | b.keys() if a.get(t) != b.get(t))
    raise ConfigError(
        f"student and teacher have different token->id maps (first difference: token {token!r} is {a.get(token)} for "
        f"the student, {b.get(token)} for the teacher): distillation needs one vocabulary; choose models of one family"
    )


def load_model(folder: Path, config: Model, device: torch.device) -> PreTrainedModel:
    """A causal language model from safetensors, in evaluation mode, its head checked against the model's own logits.

    Raises:
        DataError: the folder's weights or configuration cannot be loaded or are not those of one plain model
            (paced/models/checks.py), some weights are missing, left over, of another size or not finite.
        ConfigError: its logits are not its output projection of the hidden states, be it times a number.
    """
    model = _loaded(folder, config)
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # Gemma 2: sdpa would leave its scores as they are, and say nothing
    if model.base_model is model:
        raise ConfigError(
            f"model {folder}: transformers does not tell the layers of {type(model).__name__} from its output "
            "projection (base_model), which is not supported"
        )
    model.eval().to(device)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        probe = torch.arange(1, 5, device=device)[None]
        own = model(input_ids=probe, use_cache=False).logits[0]
        if bool((own.isnan() | own.isposinf()).any()):
            raise DataError(f"model {folder}: {NOT_FINITE}")
        products = projection(model, own.shape[-1]).logits(hidden_states(model, probe)[0])
        setattr(model, DIVISOR, logit_divisor(str(folder), own, products, model.config.get_text_config()))
    return model


def has_room(folder: Path, config: Model, device: torch.device) -> bool:
    """Whether a device (CPU: the host) has memory free for a forward pass: twice a model's weights, and 4 GiB."""
    numbers = sum(math.prod(shape) for _, shape in headers(folder).values())
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return free > 2 * numbers * DTYPES[config.dtype].itemsize + ACTIVATIONS


def empty_model(folder: Path, config: Model) -> PreTrainedModel:
    """The model of a folder without its weights' values, whose names and sizes are checked as ``load_model`` does.

    Raises:
        DataError: see ``load_model``.
    """
    return _loaded(folder, config, device_map="meta")


def _loaded(folder: Path, config: Model, **options: Any) -> PreTrainedModel:
    check_files(folder)
    with _loading(folder, "model"):
        own = AutoConfig.from_pretrained(folder, trust_remote_code=config.trust_remote_code, local_files_only=True)
    check_attention(folder, own)
    with _loading(folder, "model"), _silent():  # what the library would tell of the load is told by check_taken
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=DTYPES[config.dtype],
            trust_remote_code=config.trust_remote_code,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation="sdpa",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to be named
            **options,
        )
    model, report = loaded
    check_taken(folder, report)
    return model


def head(model: PreTrainedModel) -> nn.Linear:
    """The output projection, weight [V or more, H]."""
    return model.get_output_embeddings()  # pyright: ignore[reportReturnType]


def projection(model: PreTrainedModel, size: int, temperature: float = 1.0) -> Projection:
    """Hidden states to logits over the first ``size`` ids, capped and scaled as the model's are (Gemma 2, Granite)."""
    core = head(model)
    softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return Projection(core.weight, size, core.bias, softcap, temperature * getattr(model, DIVISOR, 1.0))


def next_logits(model: PreTrainedModel, hidden: Tensor, size: int) -> Tensor:
    """The model's fp32 logits [N, size] at hidden states [N, H], by its output projection's own product."""
    return projection(model, size)._replace(bias=None).finish(head(model)(hidden)[:, :size].float())


def hidden_states(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Last hidden states [B, T, H] of right-padded ids [B, T].

    No padding mask: attention is causal, so no real token ever sees the padding to its right.
    """
    return model.base_model(input_ids=ids, use_cache=False).last_hidden_state


def right_pad(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Ids [B, T] filled with 0 on the right; what stands in the filling is never looked at."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)


def layers(model: PreTrainedModel) -> list[nn.Module]:
    """The blocks that a model repeats, none inside another."""
    names = set(model._no_split_modules or ())  # pyright: ignore[reportPrivateUsage]
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():  # an outer one comes first
        repeated = type(module).__name__ in names or isinstance(module, GradientCheckpointingLayer)
        if repeated and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return list(found.values())


def response_hidden(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> Tensor:
    """Hidden states [N, H] that predict each response token, sequence after sequence.

    Which positions count follows from lengths alone, never from comparing ids with the padding id: pad may equal eos,
    and eos is trained on.
    """
    device = head(model).weight.device
    rows = [[*p, *r] for p, r in zip(prompts, responses, strict=True)]
    hidden = hidden_states(model, right_pad(rows, device))
    return torch.cat(
        [hidden[i, len(p) - 1 : len(p) + len(r) - 1] for i, (p, r) in enumerate(zip(prompts, responses, strict=True))]
    )


@functools.cache
def context_length(folder: Path) -> int:
    """Most tokens the model can attend to; 0 if its configuration does not say."""
    with _loading(folder, "configuration"):
        return int(_configured(folder, "max_position_embeddings") or 0)


def check_length(prompt: Sequence[int], new_tokens: int, folder: Path, question: str) -> None:
    """Refuse a prompt that leaves no room for the response.

    Raises:
        DataError: with the question and both lengths.
    """
    limit = context_length(folder)
    if limit and len(prompt) + new_tokens > limit:
        raise DataError(
            f"prompt of {len(prompt)} tokens + {new_tokens} new ones exceeds the context of {limit} of {folder} "
            f"(question {question[:60]!r}): lower max_new_tokens or remove the problem"
        )
