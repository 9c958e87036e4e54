"""What it costs to compare a model's weights with their digest while they are read, against reading them alone.

    python -m benchmarks.reading OUT.json [--gigabytes 1] [--pairs 11]

A Llama of random weights in float32, in the page cache, is loaded by turns with and without the comparison: as a
trained student, whose manifest has a fast digest beside the sha256, and as a model that a user keeps, of which the run
has taken both when it began. ``OUT`` has the seconds, the median of each pair's ratio and the range of the middle half.
"""

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.machine import machine, versions
from paced.config import Model
from paced.models import load_model
from paced.storage import identity
from paced.storage.artifacts import Ref, commit, describe, kept_model, model_folder
from paced.storage.checks import comparing, settle

LAYERS = 16
WIDTH = 1024  # of the hidden states; a layer then has 12.6 M numbers, and 2 x 24 M are embedding and output projection


def make(folder: Path, gigabytes: float) -> Ref:
    """A training artifact whose model takes so much."""
    torch.manual_seed(0)
    rows = max(1024, int((gigabytes * 2**30 / 4 - LAYERS * 12 * WIDTH**2) / 2 / WIDTH))
    config = LlamaConfig(
        vocab_size=rows, hidden_size=WIDTH, intermediate_size=8 * WIDTH // 3, num_hidden_layers=LAYERS,
        num_attention_heads=16, num_key_value_heads=16, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model", max_shard_size="100GB")
    files = [describe(path, f"model/{path.name}") for path in sorted((folder / "model").iterdir())]
    return commit(
        folder, kind="train", identity="sha256:0", inputs={}, config={}, algorithm=1, counts={}, files=files, seconds=0
    )


@contextlib.contextmanager
def compared(ref: Ref) -> Generator[None]:
    """As a stage that commits something after it has read the model."""
    identity._file_digest.cache_clear()  # pyright: ignore[reportPrivateUsage]
    with comparing():
        model_folder(ref)
        yield
        settle()


def pairs(folder: Path, check: Callable[[], Any], number: int) -> dict[str, Any]:
    """Seconds without and with the comparison, the first pair not counted."""
    config, cpu = Model(path=str(folder)), torch.device("cpu")
    seconds: list[tuple[float, float]] = []
    for turn in range(number + 1):
        pair: dict[str, float] = {}
        for name in ("plain", "compared")[:: 1 if turn % 2 else -1]:
            began = time.perf_counter()
            with check() if name == "compared" else contextlib.nullcontext():
                load_model(folder, config, cpu)
            pair[name] = time.perf_counter() - began
        seconds.append((pair["plain"], pair["compared"]))
    plain, both = np.array(seconds[1:]).T
    low, median, high = np.percentile(both / plain, [25, 50, 75])
    return {
        "plain_seconds": round(float(np.median(plain)), 3), "compared_seconds": round(float(np.median(both)), 3),
        "ratio": round(float(median), 3), "middle_half": [round(float(low), 3), round(float(high), 3)],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of comparing weights while they are read")
    parser.add_argument("out", type=Path)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--pairs", type=int, default=11)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        trained = make(Path(temporary) / "artifacts" / "train" / "0", options.gigabytes)
        folder = trained.folder / "model"
        kept = kept_model(folder)
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        result = {
            "bytes": size, "pairs": options.pairs,
            "trained student (xxh3)": pairs(folder, lambda: compared(trained), options.pairs),
            "model of a user (xxh3)": pairs(folder, lambda: compared(kept), options.pairs),
            "machine": machine(), "versions": versions("torch", "transformers", "xxhash"),
        }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
