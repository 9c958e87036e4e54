"""The vLLM engine: offline, in processes of its own, for throughput on GPUs (docs/engines.md).

This module lives in the stage's process and imports no vLLM. It starts ``vllm_process.py`` with the interpreter of the
environment that has vLLM, hands it requests as JSON lines and reads responses the same way. That process leads a
session of its own, which ends with whatever reads its output, however that ends. Token ids go in and come out, so no
tokenizer takes part.
"""

import base64
import contextlib
import json
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
from numpy.typing import NDArray

from paced.config import Device, Engine, Model, Runtime, Sampling
from paced.errors import ConfigError, EngineError
from paced.losses.targets import encode_likeliest
from paced.sampling.engines.base import Limits, Request, Response
from paced.sampling.engines.vllm_process import INSTALL, TESTED

PROGRAM = Path(__file__).with_name("vllm_process.py")
CHECK_SECONDS = 600.0  # for importing vLLM, which a cold network disk makes slow

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


def interpreter(engine: Engine) -> Path:
    """The Python of the environment with vLLM: ``engine.python``, else ``.venv-vllm`` beside the environment that runs.

    Raises:
        ConfigError: there is none.
    """
    path = Path(engine.python) if engine.python else Path(sys.prefix).with_name(".venv-vllm") / "bin" / "python"
    if not os.access(path, os.X_OK) or path.is_dir():
        name = "engine.python" if engine.python else "engine.kind vllm"
        raise ConfigError(f"{name}: there is no interpreter {path}: {INSTALL}")
    return path.absolute()  # not resolved: an environment is found by the link's own place


def check(engine: Engine, device: Device) -> str:
    """Import vLLM as the engine will, without a model, and say in one line what was found.

    Raises:
        ConfigError: no interpreter, no vLLM, one that lacks a feature or was built for another device, too few GPUs.
    """
    python, gpus = interpreter(engine), engine.data_parallel * engine.tensor_parallel
    try:
        done = subprocess.run(
            [*command(python), "check", device, str(gpus)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            env=environment(), timeout=CHECK_SECONDS,
        )  # fmt: skip
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        words = f"took longer than {CHECK_SECONDS:.0f} s" if isinstance(error, subprocess.TimeoutExpired) else "failed"
        raise ConfigError(f"importing vLLM with {python} {words}; its own words are in the stage's log") from None
    if "unfit" in found:
        raise unfit(python, found["unfit"])
    return f"vLLM {found['version']} for {found['device']} in {python}; tested with {', '.join(TESTED)}"


def unfit(python: Path, words: str) -> ConfigError:
    return ConfigError(f"engine.kind vllm, {python}: {words}")


def command(python: Path) -> list[str]:
    """``-P``: else this file, which lies beside the program, would be imported as ``vllm``."""
    return [str(python), "-P", str(PROGRAM)]


def environment() -> dict[str, str]:
    """This process's own, without the packages that it adds to its interpreter's."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | ENVIRONMENT


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
        ConfigError: there is no interpreter; when sampling, its vLLM cannot be used, or sees too few devices.
    """

    name = "vllm"

    def __init__(
        self, folder: Path, model: Model, limits: Limits, runtime: Runtime, log: Callable[[str], None],
        floor: float | None = None,
    ):  # fmt: skip
        self.python = interpreter(model.engine)
        self.folder, self.model, self.limits, self.runtime, self.log = folder, model, limits, runtime, log
        self.rows, self.floor, self.normalised = runtime.sample_rows, floor, limits.rows
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
            wanted = ((i, requests[i]) for i in share)
            asked = [(i, r.prompt_ids, r.seed % (1 << 63), r.logprobs) for i, r in wanted]
            copy.send({"sampling": sampling.model_dump(), "requests": asked})
        results: dict[int, Response] = {}
        for event in self._answers(len(requests)):
            response = self.limits.response(event["ids"], sampling, self.name)
            if told := event["likeliest"]:
                ids, logp, targets = *unpacked(told, len(response.ids)), None
                if self.floor:
                    targets = encode_likeliest(ids, logp, self.floor, self.limits.known, self.limits.vocabulary)
                response = response._replace(targets=targets, logprobs=logp[:, 0].tolist())
            results[event["i"]] = response
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
            elif "unfit" in event:
                raise unfit(self.python, event["unfit"])
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
            "likeliest": min(LIKELIEST, self.limits.vocabulary) if self.floor else None,
        }
        width = engine.tensor_parallel
        devices = gpus(count * width)
        for number in range(count):
            own = devices[number * width : (number + 1) * width]
            self._copies.append(Copy(self._events, self.python, self.runtime.threads, own))
            self._copies[-1].send(order)


def gpus(count: int) -> list[str]:
    """Names for so many GPUs, as CUDA_VISIBLE_DEVICES or the driver has them; each copy counts its own (check_library).

    They may be fewer, where that variable names fewer. vLLM's CPU build does not look at them.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(i) for i in range(count)]
    return [name for part in visible.split(",") if (name := part.strip()) not in ("", "-1")][:count]


def unpacked(fields: Sequence[str], positions: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Ids and log-probabilities, each [positions, 1 + K], as the engine's process has packed them."""
    ids, logp = (
        np.frombuffer(base64.b64decode(field), kind).reshape(positions, -1)
        for field, kind in zip(fields, (np.int32, np.float32), strict=True)
    )
    return ids.astype(np.int64), logp.astype(np.float64)


class Copy:
    """One engine process; what it says goes to ``events``, and None when it has ended."""

    def __init__(self, events: "queue.Queue[Any]", python: Path, threads: int | None, devices: Sequence[str]):
        own = environment() | {"CUDA_VISIBLE_DEVICES": ",".join(devices)}
        if threads:
            own["OMP_NUM_THREADS"] = str(threads)
        self.process = subprocess.Popen(
            command(python), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=own, start_new_session=True
        )
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
