"""The vLLM engine: offline, in processes of its own, for throughput on GPUs (docs/engines.md).

The class here lives in the stage's process and imports no vLLM. It starts this module as a program, hands it
requests as JSON lines and reads responses the same way; the functions below run there, in a session of their own that
ends with whatever reads their output, however that ends. Token ids go in and come out, so no tokenizer takes part.
"""

import base64
import contextlib
import importlib
import importlib.util
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paced.config import Model, Runtime, Sampling
from paced.errors import ConfigError, EngineError
from paced.losses.targets import ENTRIES, Sparse, encode_likeliest
from paced.sampling.engines.base import Limits, Request, Response

ATTEMPTS = 3  # at one part; each with half as many sequences at once as the one before
LENGTH = 256  # of prompt and response, at least; then powers of two
BATCHED_TOKENS = 8192  # in one forward pass
LIKELIEST = 128  # ids whose log-probabilities are asked for, to capture targets
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the scheduler in the engine's own process: one start instead of two
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # of the workers that tensor parallelism needs
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several stages share a host
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
}


class Died(Exception):
    """An engine's process ended, or failed in a way that a smaller batch may mend."""


class VllmEngine:
    """``data_parallel`` copies of one model; the requests of a part are dealt out among them.

    Args:
        rows: sequences sampled at once, by all copies together.
        log: told of restarts.
        floor: responses come with their targets down to this probability (paced/losses/targets.py), where the likeliest
            ids settle these.

    Raises:
        ConfigError: vLLM is not installed; when sampling, there are fewer devices than the copies need.
    """

    name = "vllm"

    def __init__(
        self, folder: Path, model: Model, limits: Limits, runtime: Runtime, log: Callable[[str], None],
        floor: float | None = None,
    ):  # fmt: skip
        if importlib.util.find_spec("vllm") is None:
            raise ConfigError(
                "engine.kind: vllm is not installed: pip install --editable '.[vllm]', or use kind transformers"
            )
        self.folder, self.model, self.limits, self.runtime, self.log = folder, model, limits, runtime, log
        self.rows, self.floor = runtime.sample_rows, floor
        self._length = self._halvings = 0
        self._copies: list[Copy] = []

    def sample(self, requests: Sequence[Request], sampling: Sampling, tick: Callable[[int], None]) -> list[Response]:
        if not requests:
            return []
        need = max(len(r.prompt_ids) for r in requests) + sampling.max_new_tokens
        if need > self._length:
            self.close()
            # Rounded up, so that a later part's longer prompt does not start all anew.
            self._length = min(max(LENGTH, 1 << (need - 1).bit_length()), self.limits.context or sys.maxsize)
        tries = 0
        while True:
            try:
                return self._ask(requests, sampling, tick)
            except Died as error:
                self.close()
                tries += 1
                if tries == ATTEMPTS:
                    raise EngineError(
                        f"vLLM {error}, {ATTEMPTS} times in a row, last with {self.rows} sequences at once: lower "
                        "runtime.sample_rows or engine.memory_share, or raise engine.tensor_parallel; vLLM's own words "
                        "are in the stage's log"
                    ) from None
                self.rows, self._halvings = max(1, self.rows // 2), self._halvings + 1
                self.log(f"vLLM {error}: started again with {self.rows} sequences at once")

    def close(self) -> None:
        for copy in self._copies:
            copy.close()
        self._copies = []

    def _ask(self, requests: Sequence[Request], sampling: Sampling, tick: Callable[[int], None]) -> list[Response]:
        if not self._copies:
            self._start()
        # All samples of a prompt go to one copy, whose cache then holds the prompt.
        owner: dict[tuple[int, ...], int] = {}
        shares: list[list[int]] = [[] for _ in self._copies]
        for i, request in enumerate(requests):
            shares[owner.setdefault(tuple(request.prompt_ids), len(owner) % len(shares))].append(i)
        for copy, share in zip(self._copies, shares, strict=True):
            asked = [(i, requests[i].prompt_ids, requests[i].seed % (1 << 63)) for i in share]
            copy.send({"sampling": sampling.model_dump(), "requests": asked})
        results: dict[int, Response] = {}
        for event in self._answers(len(requests)):
            response = self.limits.response(event["ids"], sampling, self.name)
            targets = event["targets"]
            results[event["i"]] = response._replace(targets=targets and received(targets))
            tick(len(results))
        return [results[i] for i in range(len(requests))]

    def _answers(self, number: int) -> Iterator[dict[str, Any]]:
        while number:
            copy, event = self._events.get()
            if event is None:
                raise Died(f"ended ({copy.ending()})")
            if "ids" in event:
                yield event
                number -= 1
            elif "ready" in event:
                self.name = f"vllm {event['ready']}"
            elif event["fatal"]:
                raise EngineError(f"vLLM cannot sample {self.folder}: {event['error']}")
            else:
                raise Died(f"failed ({event['error']})")

    def _start(self) -> None:
        self._events: queue.Queue[tuple[Copy, dict[str, Any] | None]] = queue.Queue()
        engine, count = self.model.engine, self.model.engine.data_parallel
        settings = {
            "model": str(self.folder),
            "dtype": self.model.dtype,
            "trust_remote_code": self.model.trust_remote_code,
            "max_model_len": self._length,
            "max_num_seqs": max(1, self.rows // count),
            "max_num_batched_tokens": max(BATCHED_TOKENS >> self._halvings, self.rows),
            "tensor_parallel_size": engine.tensor_parallel,
            "gpu_memory_utilization": engine.memory_share,
            "max_logprobs": LIKELIEST,
            "logprobs_mode": "raw_logprobs",  # before temperature, top-p and top-k
        }
        order = {
            "settings": settings,
            "device": self.runtime.device,
            "stops": self.limits.stops,
            "padding": [self.limits.known, self.limits.vocabulary],
            "floor": self.floor,
        }
        width = engine.tensor_parallel
        devices = [] if self.runtime.device == "cpu" else gpus(count, width)
        for number in range(count):
            own = devices[number * width : (number + 1) * width]
            self._copies.append(Copy(self._events, self.runtime.threads, own))
            self._copies[-1].send(order)


def gpus(count: int, width: int) -> list[str]:
    """Names of the GPUs for copies of so many devices, as CUDA_VISIBLE_DEVICES or the driver has them.

    None if torch, and so vLLM, was built for CPUs and no GPU is named.

    Raises:
        ConfigError: there are too few.
    """
    visible, built = os.environ.get("CUDA_VISIBLE_DEVICES"), torch.backends.cuda.is_built()
    there = torch.cuda.device_count()
    named = list(map(str, range(there)))
    if visible is not None:
        named = [name for part in visible.split(",") if (name := part.strip()) not in ("", "-1")]
    usable = min(len(named), there) if built else len(named)
    if (built or named) and usable < count * width:
        says = "" if visible is None else f" (CUDA_VISIBLE_DEVICES names {len(named)})"
        raise ConfigError(
            f"engine: data_parallel {count} x tensor_parallel {width} needs {count * width} devices, but there are "
            f"{usable}{says}: lower them, or set runtime.device to cpu if this vLLM was built for it"
        )
    return named


class Copy:
    """One engine process; what it says goes to ``events``, and None when it has ended."""

    def __init__(self, events: "queue.Queue[Any]", threads: int | None, devices: Sequence[str]):
        import paced

        root = str(Path(paced.__file__).parents[1])
        environment = os.environ | ENVIRONMENT | {"CUDA_VISIBLE_DEVICES": ",".join(devices)}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "paced.sampling.engines.vllm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=environment, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(events,), daemon=True)
        self._reader.start()

    def _read(self, events: "queue.Queue[Any]") -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            events.put((self, json.loads(line)))
        events.put((self, None))

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has died: its output ends, and that is noticed
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def ending(self) -> str:
        code = self.process.wait()
        return f"signal {-code}" if code < 0 else f"exit status {code}"

    def close(self) -> None:
        """End the process and all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(BrokenPipeError):  # what it has not read any more
            self.process.stdin.close()
        self.process.stdout.close()


def sent(targets: Sparse) -> list[str]:
    """Targets as JSON."""
    return [base64.b64encode(field.tobytes()).decode() for field in targets]


def received(fields: list[str]) -> Sparse:
    """Targets that were ``sent``."""
    flat: list[Any] = [
        np.frombuffer(base64.b64decode(f), kind) for f, kind in zip(fields, ENTRIES.values(), strict=True)
    ]
    return Sparse(*flat)


# What follows runs in the engine's process.


def main() -> None:
    """Read an order, then requests; write ``ready``, a line a response, or ``error``."""
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        os.dup2(2, 1)  # whatever a library prints goes to the log
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            for line in sys.stdin:
                lines.put(line)
            if os.getpgrp() == os.getpid():  # else somebody has started this by hand, and the group is not its own
                os.killpg(0, signal.SIGKILL)  # the stage has ended, and nobody is left to do this
            os._exit(1)

        threading.Thread(target=read, daemon=True).start()

        def tell(event: dict[str, Any]) -> None:
            out.write(json.dumps(event) + "\n")

        try:
            order = json.loads(lines.get())
            engine = build(order)
            check(engine)
            tell({"ready": library().__version__})
            while True:
                serve(engine, order, json.loads(lines.get()), tell)
        except Exception as error:
            # A wrong setting or an unknown architecture stays wrong; memory, and a worker's death, may be mended.
            words = " ".join(str(error).split())[:300] or "no message"
            fatal = isinstance(error, ValueError | TypeError | ImportError | NotImplementedError)
            tell({"error": f"{type(error).__name__}: {words}", "fatal": fatal})
            raise


def library(name: str = "vllm") -> Any:
    """vLLM, or a module of it; by its name, for here it is loaded and nowhere else."""
    return importlib.import_module(name)


def build(order: dict[str, Any]) -> Any:
    """An engine without a tokenizer; on a CPU small and quick to start."""
    vllm, platform = library(), library("vllm.platforms").current_platform
    settings = order["settings"]
    cpu = platform.is_cpu()
    if order["device"] != "auto" and cpu != (order["device"] == "cpu"):
        raise ValueError(f"runtime.device is {order['device']}, but this vLLM was built for {platform.device_type}")
    if cpu:
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
    return vllm.LLMEngine.from_engine_args(
        vllm.EngineArgs(
            **settings, skip_tokenizer_init=True, generation_config="vllm", load_format="safetensors",
            enable_prefix_caching=True, disable_log_stats=True,
        )
    )  # fmt: skip


def cache_bytes(settings: dict[str, Any]) -> int:
    """Room for all sequences at their longest, within the share of the memory that is free (CPU)."""
    import psutil
    from transformers import AutoConfig

    core = AutoConfig.from_pretrained(settings["model"], trust_remote_code=settings["trust_remote_code"])
    core = core.get_text_config()
    heads = getattr(core, "num_key_value_heads", None) or core.num_attention_heads
    width = getattr(core, "head_dim", None) or core.hidden_size // core.num_attention_heads
    token = 2 * core.num_hidden_layers * heads * width * (4 if settings["dtype"] == "float32" else 2)
    wanted = (settings["max_num_seqs"] + 1) * (settings["max_model_len"] + 32) * token
    return min(wanted, int(settings["gpu_memory_utilization"] * psutil.virtual_memory().available))


def check(engine: Any) -> None:
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
    sampling, floor, (known, size) = Sampling.model_validate(task["sampling"]), order["floor"], order["padding"]
    likeliest = min(LIKELIEST, size)
    for i, prompt_ids, seed in task["requests"]:
        params = vllm.SamplingParams(
            temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k,
            max_tokens=sampling.max_new_tokens, seed=seed,
            ignore_eos=True, stop_token_ids=order["stops"],  # else it adds those of config.json
            logit_bias={t: float("-inf") for t in range(known, size)} or None,
            detokenize=False, output_kind=kind, logprobs=likeliest if floor else None, flat_logprobs=True,
        )  # fmt: skip
        engine.add_request(str(i), {"prompt_token_ids": prompt_ids}, params)
    for output in finished(engine):
        [drawn], targets = output.outputs, None
        if floor:
            columns = (drawn.logprobs.token_ids, drawn.logprobs.logprobs)
            ids, logp = (np.array(column).reshape(len(drawn.token_ids), -1) for column in columns)
            targets = encode_likeliest(ids, logp, floor, known, size)
        tell({"i": int(output.request_id), "ids": list(drawn.token_ids), "targets": targets and sent(targets)})


if __name__ == "__main__":
    main()
