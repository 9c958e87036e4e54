"""What works with each architecture of the installed transformers, by doing it; docs/architectures.md says so.

    python tests/architectures.py        # or `make matrix`: all of them, and the page is written

A small random model of each is loaded, sampled, scored, trained for a step (all weights, recomputed activations,
adapters), stored, loaded again by transformers alone, and planned. Each of these works, or preflight refuses it in one
line; where one fails later than that, this fails.
"""

import contextlib
import sys
import tempfile
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from paced.config import Model, Recipe, Sampling, Training
from paced.config.stages import TrainConfig
from paced.distill.checkpoints import State, save_model
from paced.distill.objectives import TrainingSample
from paced.distill.train import trainable_student
from paced.errors import DataError, PacedError
from paced.losses import exact, forward_kl
from paced.models import Tokenizer, load_model, projection
from paced.models.scoring import scored
from paced.planning.footprint import scoring_memory, shape, training_memory
from paced.planning.models import check_architecture, check_end_ids, check_model, check_rows
from paced.sampling.engines.base import Request
from paced.sampling.engines.transformers import TransformersEngine
from paced.tiny.checkpoints import tokenizer

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architectures.md"
CPU = torch.device("cpu")
LARGEST = 3_000_000  # parameters of a model here
FAILED = "fails, and was not refused"

# Under the library's names, where an architecture has them; odd ones are set for those that need it.
SIZES: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "eos_token_id": 1, "bos_token_id": 1,
    "pad_token_id": 0, "sliding_window": 8, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8, "v_head_dim": 8, "d_model": 32, "n_embd": 32, "n_layer": 2, "n_layers": 2, "num_layers": 2,
    "n_head": 4, "n_heads": 4, "num_heads": 4, "n_positions": 128, "max_seq_len": 128, "n_inner": 64, "ffn_dim": 64,
    "ffn_hidden_size": 64, "rotary_dim": 4, "word_embed_proj_dim": 32, "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 32, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8,
    "state_size": 8,
}  # fmt: skip
ALWAYS = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"}
ALWAYS |= {"eos_token_id", "bos_token_id", "pad_token_id"}
ODD: dict[str, dict[str, Any]] = {"gpt_neo": {"attention_types": [[["global", "local"], 1]]}}

MODES = {
    "all weights": Training(),
    "gradient_checkpointing": Training(gradient_checkpointing=True),
    "lora_rank": Training(lora_rank=2),
}
PROMPTS = [[5, 9, 3], [7, 11, 4, 4, 20, 8, 6, 13, 3, 25, 5, 14], [10, 6]]


def configuration(architecture: str, **settings: Any) -> Any:
    """A small configuration; ``settings`` win."""
    kind: Any = CONFIG_MAPPING[architecture]
    known = kind().to_dict()
    sizes = {k: v for k, v in SIZES.items() if known.get(k) is not None or k in ALWAYS}
    if "qk_rope_head_dim" in known:
        sizes.pop("head_dim", None)  # which follows from it
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    return kind(**(sizes | ODD.get(architecture, {}) | settings))


def make(architecture: str, folder: Path, **settings: Any) -> Path:
    """A random model with the tiny world's tokenizer, its weights large enough for next tokens to differ."""
    config = configuration(architecture, **settings)
    with torch.device("meta"):
        if sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters()) > LARGEST:
            raise ValueError(f"{architecture}: too large")
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                torch.nn.init.normal_(p, std=1.5 / p.shape[-1] ** 0.5)
        model(input_ids=torch.tensor(PROMPTS[:1]), use_cache=False)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


class Outcome(NamedTuple):
    """What is refused, by mode ('sampling' too), and what cannot be planned, each in one line; nothing else fails."""

    refused: dict[str, str]
    plan: str


def recipe_of(folder: Path, training: Training, engine: str) -> Recipe:
    """A recipe of one arm with this student, which is its own teacher."""
    data = {"source": "table", "path": "q.jsonl"}
    engines = {"transformers": {}, "vllm": {"engine": {"kind": "vllm"}}}[engine]
    return Recipe.model_validate(
        {
            "name": "r", "data": data, "student": {"path": str(folder), **engines}, "training": training.model_dump(),
            "answers": {"keep": "all"}, "arms": [{"name": "a", "scheme": "uniform", "schedule": "forward"}],
            "evaluation": {"benchmarks": [{"name": "held", "data": data}]},
        }
    )  # fmt: skip


def refusal(folder: Path, training: Training, engine: str) -> str:
    """What preflight's checks of the model say, '' if nothing."""
    recipe, tokens = recipe_of(folder, training, engine), Tokenizer(folder)
    try:
        check_end_ids(folder, tokens, False)
        check_model(recipe, "student", folder, lambda message: None)
        check_architecture(recipe, "student", folder, lambda message: None)
        check_rows(tokens.size, folder)
    except PacedError as error:
        return one_line(error, folder)
    return ""


def one_line(error: PacedError, folder: Path) -> str:
    line = str(error).replace(str(folder), "FOLDER")
    assert "\n" not in line
    return line


@contextlib.contextmanager
def named(what: str) -> Generator[None]:
    """Says in an error what was being done."""
    try:
        yield
    except Exception as error:
        error.add_note(f"while {what}")
        raise


def outcome(folder: Path) -> Outcome:
    """Does all that preflight does not refuse.

    Raises:
        Exception: what was not refused has failed, or has given something else than plain transformers gives.
    """
    refused = {mode: line for mode, t in MODES.items() if (line := refusal(folder, t, "vllm"))}
    whole = refusal(folder, MODES["all weights"], "transformers")
    if whole and "all weights" not in refused:
        refused["sampling"] = whole
    plain: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    gradients: dict[str, dict[str, Tensor]] = {}
    if "all weights" not in refused:
        with named("scoring"):
            check_scores(folder, plain)
    if not whole:
        with named("sampling"):
            check_samples(folder, plain)
    for mode, training in MODES.items():
        if mode not in refused:
            with named(f"training: {mode}"), tempfile.TemporaryDirectory() as target:
                gradients[mode] = check_training(folder, training, Path(target))
    if "gradient_checkpointing" in gradients:
        for name, gradient in gradients["all weights"].items():
            torch.testing.assert_close(gradients["gradient_checkpointing"][name], gradient, rtol=1e-4, atol=1e-6)
    if "all weights" in refused:  # plan says the same
        return Outcome(refused, refused["all weights"])
    try:
        planned = shape(str(folder))
        assert planned.parameters == sum(p.numel() for p in plain.parameters())
        assert 0 <= planned.idle < planned.parameters
        for training in MODES.values():
            assert all(size >= 0 for size in training_memory(planned, training, "float32", 64, None).values())
        assert scoring_memory(planned, "float32", 64)["forward pass"] > 0
        plan = ""
    except DataError as error:
        plan = one_line(error, folder)
    return Outcome(refused, plan)


@torch.no_grad()
def check_scores(folder: Path, plain: PreTrainedModel) -> None:
    """Likelihoods of responses in one padded batch are those of each sequence alone."""
    model = load_model(folder, Model(path=str(folder)), CPU)
    responses = [p[::-1] for p in PROMPTS]
    for batch, hidden in scored(model, list(zip(PROMPTS, responses, strict=True))):
        logprobs = projection(model, 27).logits(hidden).log_softmax(-1).split([len(responses[i]) for i in batch])
        for i, found in zip(batch, logprobs, strict=True):
            logits = plain(input_ids=torch.tensor([PROMPTS[i] + responses[i]]), use_cache=False).logits[0]
            own = logits[len(PROMPTS[i]) - 1 : -1, :27].float().log_softmax(-1)
            torch.testing.assert_close(found, own, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def check_samples(folder: Path, plain: PreTrainedModel) -> None:
    """The most probable tokens are those of a plain forward pass over what has been drawn, beyond any window."""
    engine = TransformersEngine(load_model(folder, Model(path=str(folder)), CPU), Tokenizer(folder), 2)
    sampling = Sampling(top_k=1, max_new_tokens=14)
    requests = [Request(p, seed) for seed, p in enumerate(PROMPTS)]
    for prompt, response in zip(PROMPTS, engine.sample(requests, sampling, lambda done: None), strict=True):
        logits = plain(input_ids=torch.tensor([prompt + response.ids]), use_cache=False).logits[0, :, :27]
        best = logits[len(prompt) - 1 : -1]
        torch.testing.assert_close(best.gather(1, torch.tensor(response.ids)[:, None])[:, 0], best.amax(-1))


def check_training(folder: Path, training: Training, target: Path) -> dict[str, Tensor]:
    """One step of AdamW; the stored student gives, in plain transformers, the trained one's logits. Its gradients."""
    config = TrainConfig(
        dtype="float32", thinking=None, trust_remote_code=False, objective="forward", loss="forward_kl", jsd_share=None,
        temperature=1.0, seed=0, teacher_dtype="float32", privileged=False, teacher_trust_remote_code=False, steps=1,
        start=0, draw_start=0, more=False, training=training,
    )  # fmt: skip
    torch.manual_seed(0)
    student = trainable_student(folder, config, 27, CPU, None)
    samples = [TrainingSample(p, p[::-1], 1.0, 0) for p in PROMPTS]
    shares = torch.full((sum(map(len, PROMPTS)),), 0.1)
    trained = {name: p for name, p in student.model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), 0.01)
    for _ in range(1 + (training.lora_rank > 0)):  # adapters begin at zero
        optimizer.zero_grad()
        student(samples, shares, lambda logits, rows: exact(forward_kl, logits, torch.zeros_like(logits)))[0].backward()
        optimizer.step()
    gradients = {name: p.grad.clone() for name, p in trained.items() if p.grad is not None}
    assert gradients and all(bool(g.isfinite().all()) for g in gradients.values())
    save_model(student.model, State(student.model, optimizer).weights(torch.float32), folder, target / "model")
    again: Any = AutoModelForCausalLM.from_pretrained(target / "model").eval()
    ids = torch.tensor([PROMPTS[1]])
    with torch.no_grad():
        stored, own, before = (
            m(input_ids=ids, use_cache=False).logits
            for m in (again, student.model, load_model(folder, Model(path=str(folder)), CPU))
        )
    torch.testing.assert_close(stored, own, rtol=1e-3, atol=1e-3)
    assert (stored - before).abs().max() > 1e-2
    return gradients


def all_outcomes() -> Generator[tuple[str, Outcome | str]]:
    """Each architecture of the library that a small model can be made of; of the others, why not."""
    for architecture in sys.argv[1:] or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                make(architecture, Path(folder))
            except Exception as error:
                yield architecture, " ".join(str(error).split())[:100]
                continue
            try:
                yield architecture, outcome(Path(folder))
            except Exception:
                traceback.print_exc()
                yield architecture, FAILED


def entry(architecture: str, found: Outcome) -> str:
    """An architecture's lines of the page."""
    refused = dict(found.refused)
    if "all weights" in refused:
        return f"- `{architecture}`: not supported. {short(refused['all weights'])}"
    lines = [f"no {mode}: {short(line)}" for mode, line in refused.items()]
    if found.plan:
        lines.append(f"no plan: {short(found.plan)}")
    return f"- `{architecture}`: " + ("; ".join(lines) or "all")


def short(line: str) -> str:
    """The reason of a refusal, without what all of them say."""
    _, _, reason = line.rpartition("as a small model of its architecture shows: ")
    reason = reason.removeprefix("model FOLDER: ").removeprefix("FOLDER/config.json: ").removesuffix(".")
    return reason.partition(" (by ")[0][:200]


HEAD = f"""# Architectures

This page is for people who want to know whether their model can be used. After reading it you know what works with its
architecture, the `model_type` of its config.json.

`make matrix` writes it, for transformers {transformers.__version__}: of each architecture a small random model is
loaded, sampled by the engine `transformers`, scored, trained for a step (all weights,
`training.gradient_checkpointing`, `training.lora_rank`), stored, loaded again and planned, and each result is held
against plain transformers. What does not work here is what preflight refuses, before anything is sampled, and
`paced plan` too; a model is refused by what it does, not by its name. What engine `vllm` can sample, vLLM's own list
says.

"""


def main() -> int:
    """Write the page, unless something fails later than preflight."""
    transformers.logging.set_verbosity_error()
    entries, without, failed = list[str](), list[str](), 0
    for architecture, found in all_outcomes():
        if isinstance(found, Outcome):
            entries.append(entry(architecture, found))
            print(entries[-1], flush=True)
        else:
            without.append(architecture)
            failed += found == FAILED
            print(f"- `{architecture}`: {found}", flush=True)
    if failed:
        return 1
    works = [e for e in entries if e.endswith(": all")]
    text = HEAD + f"{len(entries)} architectures were tried; with {len(works)} of them all of it works.\n\n"
    text += "\n".join(entries) + "\n\n"
    text += "No small model could be made of these, so nothing is known of them here: "
    PAGE.write_text(text + ", ".join(f"`{name}`" for name in without) + ".\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
