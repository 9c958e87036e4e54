"""What a model weighs, without its weights: parameters, file sizes, and the memory of sampling, scoring and training.

Shapes come from the model's configuration alone: the library builds the model on fake tensors, so counts are exact for
any architecture it knows, and the activations kept for the backward pass are those that its own code would keep.

Symbols: P parameters, V vocabulary, H hidden size. Sizes are in bytes.
"""

import contextlib
import functools
import json
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from paced.config import Precision, Sampling, Training
from paced.errors import DataError
from paced.losses import BLOCK, GPU, chunk_rows
from paced.models import DTYPES, head
from paced.models.lora import adapted_layers
from paced.models.scoring import CHUNK, TOKENS, shape_of
from paced.sampling.engines.base import COLUMNS

BYTES: dict[str, int] = {"float32": 4, "bfloat16": 2}
# Of a stage's process without a model: Python, torch, transformers, pandas (docs/reproduce.md). A torch that is built
# for CUDA brings its libraries along, whether there is a GPU or not.
PROCESS = 585_000_000 if torch.version.cuda else 420_000_000
DIVERGENCE = 8  # numbers that the loss needs at once, beside each logit of a block
LOADING = "weight files while they are converted (host)"
GROWTH = "earlier columns of the cache that the heap keeps (host)"
HEAP = 32 << 20  # glibc takes less than this from the heap, whose holes a wider cache does not fit into
KNOWN = Path(__file__).with_name("known.json")


class Shape(NamedTuple):
    """A model's tensors and what a token of context costs it."""

    name: str
    source: str  # where the configuration was read
    tensors: dict[str, tuple[int, ...]]  # each parameter once, tied ones under the name they are saved by
    layers: int
    vocabulary: int
    hidden: int
    kv_width: int  # numbers of key and value a token and layer
    attention: int  # heads times head size
    context: int
    tied: bool  # the output projection is the embedding
    stored: str  # precision of the weight files, as the configuration has it
    config: dict[str, Any]  # of the language model alone, where there is more (Gemma 3's eyes)
    adapted: frozenset[str]  # layers that LoRA gives adapters
    idle: int  # parameters of experts that a token does not go through

    @property
    def parameters(self) -> int:
        return sum(map(_size, self.tensors.values()))

    @property
    def head(self) -> int:
        """V x H."""
        return self.vocabulary * self.hidden

    @property
    def active(self) -> int:
        """Parameters that a token goes through: all but those of other experts than its own."""
        return self.parameters - self.idle

    @property
    def multiplied(self) -> int:
        """Parameters that each token is multiplied with: the active ones but an embedding that is only looked up."""
        return self.active - (0 if self.tied else self.head)


def _size(shape: Sequence[int]) -> int:
    return functools.reduce(lambda a, b: a * b, shape, 1)


def configuration(path: str) -> tuple[dict[str, Any], str]:
    """``config.json`` of a model folder; of a folder that is not there yet, that of a known model by its name.

    Returns:
        the configuration, and where it was read.

    Raises:
        DataError: the folder is neither there nor known.
    """
    file = Path(path) / "config.json"
    if file.exists():
        try:
            return json.loads(file.read_text(), object_hook=_special), str(file)
        except ValueError as error:
            raise DataError(f"{file} is not valid JSON ({error})") from None
    known: dict[str, dict[str, Any]] = json.loads(KNOWN.read_text())["models"]
    name = max((k for k in known if Path(path).name.startswith(k)), key=len, default=None)
    if name is None:
        raise DataError(
            f"model folder {path} has no config.json, and no model of that name is known ({', '.join(sorted(known))}): "
            "download the model, or name its folder after one of these"
        )
    return known[name], f"{path} is not there: the shape of {name}"


def _special(value: dict[str, Any]) -> Any:
    """The library writes infinity as {"__float__": "Infinity"}."""
    return float(value["__float__"]) if value.keys() == {"__float__"} else value


def _one_expert(module: Any, hidden: torch.Tensor, chosen: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Experts [E, ...] for hidden states [N, H] of which each goes to k, ``chosen`` [N, k]; in shapes and memory alone.

    Which rows an expert gets depends on their values, which fake tensors do not have. So all N k rows go through the
    first one: as many products of the same sizes, and as much to keep.
    """
    module.chosen = chosen.shape[-1]

    def product(rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return rows @ (weights[0] if module.is_transposed else weights[0].T)

    rows = hidden.repeat_interleave(chosen.shape[-1], 0)
    if module.has_gate:
        rows = module._apply_gate(product(rows, module.gate_up_proj))
    else:
        rows = module.act_fn(product(rows, module.up_proj))
    rows = product(rows, module.down_proj) * shares.reshape(-1, 1)
    return rows.view(*chosen.shape, -1).sum(1).to(hidden.dtype)


ALL_EXPERTS_FUNCTIONS.register("one_expert", _one_expert)


def _build(config: dict[str, Any], dtype: Precision = "float32") -> PreTrainedModel:
    made = AutoConfig.for_model(**config)  # pyright: ignore[reportUnknownMemberType]
    with no_init_weights():  # some are drawn from what fake tensors do not have
        model = AutoModelForCausalLM.from_config(made, attn_implementation="sdpa", dtype=DTYPES[dtype])
    model.tie_weights()
    if model._can_set_experts_implementation():
        model.set_experts_implementation("one_expert")
    return model.eval()


def _idle(model: PreTrainedModel) -> int:
    """Parameters of experts that the last token has not gone through."""
    found = 0
    for module in model.modules():
        if isinstance(chosen := getattr(module, "chosen", None), int):
            stacks = [p for p in module.parameters(recurse=False) if p.dim() > 1]
            found += sum(p.numel() // len(p) * (len(p) - chosen) for p in stacks)
    return found


def _passed(model: PreTrainedModel) -> int:
    """A token goes through the model; numbers that it leaves in all layers' caches, 0 where that cannot be told."""
    ids = torch.zeros(1, 1, dtype=torch.long)
    try:
        out = model(input_ids=ids, use_cache=True)
    except Exception:  # an architecture's own cache may ask for what there is not
        out = model(input_ids=ids, use_cache=False)
    layers: Any = getattr(getattr(out, "past_key_values", None), "layers", ())
    kept = [t for layer in layers for t in (getattr(layer, "keys", None), getattr(layer, "values", None))]
    return sum(t.numel() for t in kept if t is not None)


def _head_size(config: Any) -> int:
    """Of attention; where it differs from layer to layer, which some configurations refuse to tell, by the width."""
    size: Any = None
    with contextlib.suppress(Exception):
        size = config.head_dim
    return size or config.hidden_size // config.num_attention_heads


def shape(path: str) -> Shape:
    """The shape of a model folder, or of a known model.

    Raises:
        DataError: see ``configuration``; or the library knows no such architecture, or its code asks for values.
    """
    config, source = configuration(path)
    try:
        with FakeTensorMode(), torch.no_grad():
            model = _build(config)
            tensors = {name: tuple(p.shape) for name, p in model.named_parameters()}
            cached, idle = _passed(model), _idle(model)
        c: Any = model.config.get_text_config()
        heads, size = c.num_attention_heads, _head_size(c)
        keys = 2 * getattr(c, "num_key_value_heads", heads) * size
        return Shape(
            Path(path).name, source, tensors, c.num_hidden_layers, c.vocab_size, c.hidden_size,
            cached // c.num_hidden_layers or keys, heads * size, getattr(c, "max_position_embeddings", 0),
            head(model).weight is model.get_input_embeddings().weight,
            config.get("dtype") or config.get("torch_dtype") or "bfloat16",
            json.loads(json.dumps(c.to_dict())), frozenset(adapted_layers(model)), idle,
        )  # fmt: skip
    except Exception as error:  # of an architecture's own code, which may raise anything
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{source}: transformers cannot build this model without its data: {reason}") from None


def safetensors_bytes(tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: bool) -> int:
    """The exact size of a safetensors file: 8 bytes, a header of JSON padded to 8, then the data.

    Args:
        tensors: name -> (dtype as safetensors writes it, shape).
        metadata: whether it says {"format": "pt"}, as models do.
    """
    widths = {"F32": 4, "BF16": 2, "U8": 1}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}} if metadata else {}
    end = 0
    for name in sorted(tensors, key=lambda n: (-widths[tensors[n][0]], n)):
        dtype, sizes = tensors[name]
        start, end = end, end + _size(sizes) * widths[dtype]
        header[name] = {"dtype": dtype, "shape": list(sizes), "data_offsets": [start, end]}
    text = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-text // 8) * 8 + end


def model_bytes(model: Shape, dtype: Precision) -> int:
    """``model.safetensors`` of a student (one file; above 50 GB the library splits it, which adds an index)."""
    kind = {"float32": "F32", "bfloat16": "BF16"}[dtype]
    return safetensors_bytes({name: (kind, sizes) for name, sizes in model.tensors.items()}, True)


def adapters(model: Shape, rank: int) -> dict[str, tuple[int, ...]]:
    """The LoRA adapters of the linear layers (paced/models/lora.py)."""
    found: dict[str, tuple[int, ...]] = {}
    for name, sizes in model.tensors.items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and layer in model.adapted:
            found |= {f"{layer}.lora_A.default.weight": (rank, sizes[1])}
            found |= {f"{layer}.lora_B.default.weight": (sizes[0], rank)}
    return found


def checkpoint_bytes(model: Shape, weights: bool, lora_rank: int = 0) -> int:
    """A training checkpoint: AdamW's two moments and step a parameter, the RNG state, and the fp32 weights.

    Args:
        lora_rank: of adapters, which then are all that it holds.
    """
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {"rng": ("U8", tuple(torch.get_rng_state().shape))}
    for name, sizes in (adapters(model, lora_rank) if lora_rank else model.tensors).items():
        tensors[f"step.{name}"] = ("F32", ())
        for key in ("exp_avg", "exp_avg_sq", *(("weight",) if weights else ())):
            tensors[f"{key}.{name}"] = ("F32", sizes)
    return safetensors_bytes(tensors, False)


def students_bytes(model: Shape, dtype: Precision, lora_rank: int, between: int, last: bool = True) -> int:
    """What training stages in a row leave: a model each, and what the next one goes on with.

    Args:
        between: stages that another follows; they keep fp32 weights, AdamW's moments and adapters.
        last: whether the last student is counted too, which is kept in ``dtype`` alone.
    """
    kept = model_bytes(model, "float32") + checkpoint_bytes(model, lora_rank > 0, lora_rank)
    return between * kept + (model_bytes(model, dtype) if last else 0)


def activations(model: Shape, rows: int, tokens: int, dtype: Precision, layers: int | None = None) -> int:
    """What the library's own code keeps for the backward pass of the layers (not the head), autocast to ``dtype``.

    Args:
        rows: sequences, each of ``tokens`` padded tokens.
        layers: of a model with so many layers instead of its own.
    """
    try:
        return _activations(json.dumps(_with_layers(model, layers)), rows, tokens, dtype)
    except Exception:
        if layers is None:
            raise
        # An architecture whose layers need each other: an equal share of all of them.
        return _activations(json.dumps(model.config), rows, tokens, dtype) * layers // model.layers


def _with_layers(model: Shape, layers: int | None) -> dict[str, Any]:
    if layers is None:
        return model.config
    each = {k: v[:layers] for k, v in model.config.items() if isinstance(v, list) and len(v) == model.layers}
    return model.config | {"num_hidden_layers": layers} | each


@functools.lru_cache(maxsize=256)
def _activations(config: str, rows: int, tokens: int, dtype: Precision) -> int:
    with FakeTensorMode():
        model = _build(json.loads(config))
        own = {p.untyped_storage()._cdata for p in model.parameters()}  # pyright: ignore[reportPrivateUsage]
        kept: dict[int, Any] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:  # pyright: ignore[reportPrivateUsage]
                kept[storage._cdata] = storage  # pyright: ignore[reportPrivateUsage]
            return tensor

        ids = torch.zeros(rows, tokens, dtype=torch.long)
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", DTYPES[dtype], enabled=dtype != "float32"),
        ):
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return sum(storage.nbytes() for storage in kept.values()) + hidden.untyped_storage().nbytes()


class _Alive(TorchDispatchMode):
    """The peak of what lives at once, by the tensors that hold it; storages in ``own`` are not counted."""

    def __init__(self, own: Set[int]) -> None:
        super().__init__()
        self.own, self.holders = own, Counter[int]()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {id(leaf) for leaf in tree_leaves((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and id(tensor) not in known:
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()  # pyright: ignore[reportPrivateUsage]
                if key in self.own:
                    continue
                self.holders[key] += 1
                if self.holders[key] == 1:
                    self.now += size
                    self.peak = max(self.peak, self.now)
                weakref.finalize(tensor, self._end, key, size)
        return out

    def _end(self, key: int, size: int) -> None:
        self.holders[key] -= 1
        if not self.holders[key]:
            self.now -= size


@functools.lru_cache(maxsize=256)
def _forward_pass(config: str, rows: int, tokens: int, dtype: Precision) -> int:
    """What lives at once in a forward pass without gradients, attention masks included; layers give way to the next."""
    with FakeTensorMode():
        model = _build(json.loads(config), dtype)
        ids = torch.zeros(rows, tokens, dtype=torch.long)
        mask = torch.ones(rows, tokens, dtype=torch.long)
        own = {p.untyped_storage()._cdata for p in model.parameters()}  # pyright: ignore[reportPrivateUsage]
        with torch.no_grad(), _Alive(own) as alive:
            model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        return alive.peak


def training_memory(
    model: Shape,
    training: Training,
    dtype: Precision,
    tokens: int,
    teacher: tuple[Shape, Precision] | None,
    sharded: int = 1,
    cuda: bool = False,
) -> dict[str, int]:
    """The peak memory of a training process, by item.

    Args:
        tokens: of the longest sequence, prompt and response; a micro-batch holds at least one.
        teacher: resident teacher of reverse KL and its precision.
        sharded: processes that parameters, gradients and moments are spread over.
    """
    rows = min(training.batch, max(1, training.micro_batch_tokens // tokens))
    p, vh = model.parameters, model.head
    positions, at_once = rows * tokens, min(rows * tokens, chunk_rows(model.vocabulary))
    chunk = at_once * model.vocabulary * 4
    # The first logits lie in what the gradient of the projection will lie in, if there is room for as many.
    inside = 0 if training.lora_rank else 4 // BYTES[dtype] * model.hidden
    left = max(0, positions - inside) if inside >= at_once else positions
    if training.gradient_checkpointing:
        one, two = (activations(model, rows, tokens, dtype, layers) for layers in (1, 2))
        kept = model.layers * rows * tokens * model.hidden * 4 + (two - one) + rows * tokens * model.hidden * 8
    else:
        kept = activations(model, rows, tokens, dtype)
    weights = 2 if dtype == "bfloat16" else 0
    block = min(4 * BLOCK * (GPU if cuda else 1), chunk)
    formed = min(left, at_once) * model.vocabulary * BYTES[dtype] + DIVERGENCE * block
    trained = sum(map(_size, adapters(model, training.lora_rank).values())) if training.lora_rank else p
    if training.lora_rank:
        items = {
            f"weights, frozen, {dtype}": BYTES[dtype] * p // sharded,
            "adapters, fp32": 4 * trained // sharded,
            LOADING: (4 - BYTES[dtype]) * p,
        }
    else:
        items = {"weights, fp32": 4 * p // sharded}
    items |= {
        "gradients, fp32": 4 * trained // sharded,
        "AdamW moments, fp32": 8 * trained // sharded,
        "activations of a micro-batch": kept,
        # Its gradient beside logits; then beside that of the embedding. A frozen one has none.
        "output projection": formed if training.lora_rank else max(formed + (4 + weights) * vh, 8 * vh),
    }
    if cuda:
        items["optimizer step, all parameters at once"] = 4 * trained // sharded
    if sharded > 1:
        layer = (p - vh) // model.layers
        items["gathered parameters: head, embedding and two layers"] = 4 * (p - layer * model.layers) + 8 * layer
    if teacher:
        shape_, precision = teacher
        items["teacher, frozen"] = BYTES[precision] * shape_.parameters // sharded
        items["teacher's forward pass"] = rows * tokens * shape_.hidden * 12 + chunk
    return items


def sampling_memory(model: Shape, dtype: Precision, sampling: Sampling, prompt: int, rows: int) -> dict[str, int]:
    """The peak memory of the transformers engine, by item: ``rows`` sequences behind prompts of ``prompt`` tokens."""
    columns = -(-(prompt + sampling.max_new_tokens) // COLUMNS) * COLUMNS
    before = rows * (columns - COLUMNS) * kv_bytes(model, dtype)
    cells = rows * columns + max(TOKENS, prompt)  # and of the prompts that went through the model last
    copies = 5 if sampling.top_p < 1 else 4  # logits, those drawn from, scores, probabilities, and the nucleus
    return loading(model, dtype) | {
        "weights": BYTES[dtype] * model.parameters,
        # It grows tensor by tensor, two a layer.
        "key-value cache": cells * kv_bytes(model, dtype) * (2 * model.layers + 1) // (2 * model.layers),
        GROWTH: before if before // (2 * model.layers) < HEAP else 0,
        "next-token probabilities, fp32": rows * model.vocabulary * 4 * copies,
    }


def scoring_memory(model: Shape, dtype: Precision, tokens: int) -> dict[str, int]:
    """The peak memory of scoring given responses, the longest of ``tokens`` tokens with its prompt."""
    rows, width = shape_of(tokens)
    return loading(model, dtype) | {
        "weights": BYTES[dtype] * model.parameters,
        "forward pass": _layers_pass(model, rows, width, dtype),
        "next-token distributions of a chunk": 6 * CHUNK * model.vocabulary * 4,
    }


def _layers_pass(model: Shape, rows: int, tokens: int, dtype: Precision) -> int:
    """A forward pass through two layers, or through all of an architecture that cannot have two."""
    try:
        return _forward_pass(json.dumps(_with_layers(model, 2)), rows, tokens, dtype)
    except Exception:
        return _forward_pass(json.dumps(model.config), rows, tokens, dtype)


def loading(model: Shape, dtype: Precision) -> dict[str, int]:
    """Weight files of another precision, mapped while they are converted; gone before anything else is needed."""
    return {} if model.stored == dtype else {LOADING: BYTES.get(model.stored, 4) * model.parameters}


def host_memory(items: Mapping[str, int]) -> int:
    """The peak of a stage's process on a machine without a GPU: while it loads the model, or after it."""
    weights = next((size for item, size in items.items() if item.startswith("weights")), 0)
    file = items.get(LOADING, 0)
    return PROCESS + max(weights + file, sum(items.values()) - file)


def on_device(items: Mapping[str, int]) -> dict[str, int]:
    """What of them lies on a GPU, if there is one; the rest is the host's."""
    return {item: size for item, size in items.items() if item not in (LOADING, GROWTH)}


def kv_bytes(model: Shape, dtype: Precision) -> int:
    """Keys and values of one token in all layers."""
    return model.layers * model.kv_width * BYTES[dtype]
