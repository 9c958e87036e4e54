"""Rebuild the two checkpoints that ship with the package: ``python -m paced.tiny.checkpoints OUT``.

Both are Qwen3-architecture models over single characters, trained here from seeds on the tiny world. The teacher is
trained until it solves every level; the student is stopped early on an easier mix, where levels 3 and 4 are half
learnt, because a student without half-learnt problems has no frontier to distil at.

Shapes: B sequences, T tokens, V vocabulary.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from paced.tiny.world import CHARACTERS, RETENTION, Task, tasks

PAD, EOS = 0, 1
VOCABULARY = 32  # 25 characters, pad and eos; the rest is padding, as in real models


class TinyModel(NamedTuple):
    """How one checkpoint is made. ``mix`` gives the share of levels 1-6 and of the retention skill (key 0)."""

    hidden: int
    layers: int
    mlp: int
    scale: float  # standard deviation of the initial weights
    mix: dict[int, float]
    horizon: int  # steps of the cosine schedule
    stop: int  # step at which training really ends
    seed: int


PLANS = {
    "teacher": TinyModel(128, 4, 384, 0.08, {1: 5, 2: 7, 3: 12, 4: 14, 5: 20, 6: 32, RETENTION: 10}, 1_800, 1_800, 11),
    "student": TinyModel(96, 3, 256, 0.02, {1: 24, 2: 24, 3: 15, 4: 10, 5: 10, 6: 3, RETENTION: 14}, 1_200, 800, 12),
}
BATCH, LEARNING_RATE, WARMUP = 128, 3e-3, 50


def tokenizer() -> PreTrainedTokenizerFast:
    """A character tokenizer in the plain Hugging Face format; its chat template joins the messages' text."""
    vocabulary = {"<pad>": PAD, "<eos>": EOS} | {c: i + 2 for i, c in enumerate(CHARACTERS)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", model_max_length=96, padding_side="left"
    )
    wrapped.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return wrapped


def architecture(plan: TinyModel) -> Qwen3Config:
    """Heads of 32 because vLLM's CPU attention runs that size and dies at 24."""
    return Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=plan.hidden,
        num_hidden_layers=plan.layers,
        intermediate_size=plan.mlp,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        initializer_range=plan.scale,
        max_position_embeddings=96,
        tie_word_embeddings=True,
        use_cache=True,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
    )


def _batch(stream: list[Task], tok: PreTrainedTokenizerFast) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids [B, T] and labels [B, T] (-100 outside the response; eos is trained on)."""
    prompts: list[list[int]] = tok([t.prompt for t in stream])["input_ids"]  # pyright: ignore
    answers: list[list[int]] = tok([t.answer for t in stream])["input_ids"]  # pyright: ignore
    width = max(len(p) + len(a) + 1 for p, a in zip(prompts, answers, strict=True))
    ids = torch.full((len(stream), width), PAD)
    labels = torch.full((len(stream), width), -100)
    for row, (p, a) in enumerate(zip(prompts, answers, strict=True)):
        whole = torch.tensor([*p, *a, EOS])
        ids[row, : len(whole)] = whole
        labels[row, len(p) : len(whole)] = whole[len(p) :]
    return ids, labels


@torch.no_grad()
def accuracy(model: Qwen3ForCausalLM, tok: PreTrainedTokenizerFast, per_level: int = 128) -> dict[str, float]:
    """Share of exact greedy answers by level, on a stream of its own."""
    result: dict[str, float] = {}
    for level in (1, 2, 3, 4, 5, 6, RETENTION):
        problems = list(itertools.islice(tasks(9_000 + level, {level: 1}), per_level))
        batch = tok([p.prompt for p in problems], padding=True, return_tensors="pt", return_token_type_ids=False)
        out = model.generate(**batch, max_new_tokens=56, do_sample=False)  # pyright: ignore
        texts = tok.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)  # pyright: ignore
        result[f"level_{level}"] = float(np.mean([t == p.answer for t, p in zip(texts, problems, strict=True)]))
    return result


def build(name: str, out: Path, every: int = 0) -> None:
    """Train checkpoint ``name`` from its seed and save it under ``out/name``; one JSON line a hundred steps.

    ``every`` > 0 also saves each so-many steps, which is how the student's stopping step was chosen.
    """
    plan = PLANS[name]
    torch.manual_seed(plan.seed)
    tok = tokenizer()
    model = Qwen3ForCausalLM(architecture(plan))
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + np.cos(np.pi * step / plan.horizon))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    stream, began = tasks(plan.seed, plan.mix), time.time()
    log = (out / f"{name}.log.jsonl").open("w")

    def note(**values: Any) -> None:
        line = json.dumps({"model": name, **values})
        print(line, flush=True)
        print(line, file=log, flush=True)

    def save(folder: Path) -> None:
        model.save_pretrained(folder)
        tok.save_pretrained(folder)

    note(parameters=sum(p.numel() for p in model.parameters()), plan=plan._asdict())
    for step in range(1, plan.stop + 1):
        ids, labels = _batch(list(itertools.islice(stream, BATCH)), tok)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 0 or step == plan.stop:
            note(step=step, loss=round(loss.item(), 4), seconds=round(time.time() - began))
        if every and step % every == 0:
            note(step=step, **accuracy(model, tok))
            save(out / f"{name}-{step}")
    note(step=plan.stop, greedy=accuracy(model, tok))
    save(out / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=sorted(PLANS))
    parser.add_argument("--every", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the same bits on every machine with the same torch
    for name in [arguments.only] if arguments.only else sorted(PLANS):
        build(name, arguments.out, arguments.every)


if __name__ == "__main__":
    main()
