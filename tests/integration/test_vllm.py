"""A whole run with vLLM as the engine, killed in the middle; a running vLLM server; and servers that do not serve."""

import json
import signal
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from harness import Command, Server, environment, finished, free_port, gone, vllm_python

import paced
from paced.config import Engine, Model, Runtime, Sampling
from paced.errors import ConfigError, EngineError
from paced.models import Tokenizer, context_length, generation_config, load_model, stop_ids, vocabulary
from paced.sampling.agreement import gap
from paced.sampling.engines.base import Limits, Request
from paced.sampling.engines.server import ServerEngine
from paced.sampling.engines.transformers import TransformersEngine

STUDENT = Path(paced.__file__).parent / "tiny" / "student"


def arguments(model: Path, folder: Path) -> list[str]:
    """Self-distillation of SmolLM2 on eight problems, two rounds, everything sampled by vLLM, a problem a part."""
    rows = [
        {"question": f"Tom has {a} apples and gets {b} more. How many has he?", "answer": f"{a}+{b}\n#### {a + b}"}
        for a, b in [(2, 3), (4, 5), (10, 7), (6, 6), (8, 1), (9, 4), (5, 5), (3, 12)]
    ]
    data, test = folder / "problems.jsonl", folder / "test.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    test.write_text(json.dumps({"question": "What is 1 plus 1?", "answer": "1+1=2\n#### 2"}) + "\n")
    changes = [
        f"student.path={model}", "student.engine.kind=vllm", f"data.path={data}", "data.problems=8",
        f"evaluation.benchmarks.0.data.path={test}", "evaluation.benchmarks.0.data.problems=1",
        "evaluation.samples=4", "evaluation.sampling.max_new_tokens=32",
        "rollouts={samples: 4, sampling: {max_new_tokens: 48}}", "weights.shrinkage=[1, 1]",
        "training.steps=2", "training.batch=2", "training.warmup=1", "runtime.part_problems=1", "runtime.processes=1",
    ]  # fmt: skip
    return ["run", "recipes/smollm2_self.yaml", *(word for c in changes for word in ("--set", c))]


def test_every_stage_through_vllm(model: Path, tmp_path: Path, prefect: Mapping[str, str]) -> None:
    """Killed while it samples; the engine ends with it; what was committed is kept, the rest is sampled."""
    vllm_python()
    home = tmp_path / "home"
    command = Command(home, *arguments(model, tmp_path), env=prefect)
    command.until(lambda: len(rollout_parts(home)) >= 2, "it samples")
    command.signal(signal.SIGKILL)
    gone(home)
    before = {p: p.read_bytes() for p in rollout_parts(home)}
    assert not list(home.glob("artifacts/rollouts/*/manifest.json"))

    run = finished(home, Command(home, *arguments(model, tmp_path), env=prefect).finish(within=900))
    gone(home)

    counts = run.stages["0/rollouts"]["counts"]
    assert (counts["reused"], counts["computed"]) == (4 * len(before), 32 - 4 * len(before))
    assert all(p.read_bytes() == data for p, data in before.items())
    for label in ("base/evaluate", "0/rollouts", "paced/0/sample_1", "paced/0/evaluate"):
        counts = run.stages[label]["counts"]
        assert counts["computed"] > 0, label
        assert json.loads((Path(run.stages[label]["path"]) / "manifest.json").read_text())["config"]["engine"] == "vllm"
    assert run.stages["paced/0/sample_0"]["counts"]["computed"] == 0  # those that set the weights
    for about in home.glob("store/samples/*/collection.json"):
        assert json.loads(about.read_text())["engine"] == "vllm"
        for part in about.parent.glob("*.parquet"):
            assert {e.partition(" ")[0] for e in pq.read_table(part)["engine"].to_pylist()} == {"vllm"}


def rollout_parts(home: Path) -> list[Path]:
    """Parts committed of the rollouts: those of responses of up to 48 tokens."""
    found = []
    for about in home.glob("store/samples/*/collection.json"):
        if json.loads(about.read_text())["sampling"]["max_new_tokens"] == 48:
            found += about.parent.glob("*.parquet")
    return [p for p in found if p.with_suffix(".json").exists()]


# A server.


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's own server, on the tiny world's student."""
    folder = tmp_path_factory.mktemp("server")
    command = [
        str(vllm_python()), "-m", "vllm.entrypoints.openai.api_server", "--model", str(STUDENT), "--dtype", "float32",
        "--served-model-name", "tiny", "--enforce-eager", "--no-enable-chunked-prefill", "--max-num-seqs", "16",
        "--block-size", "32", "--kv-cache-memory-bytes", "50000000",
    ]  # fmt: skip
    quiet = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_API_KEY": "secret"}
    with Server(command, "/health", environment(folder, quiet), folder / "log", within=400) as server:
        yield server.url + "/v1"


def engine(url: str, folder: Path = STUDENT, rows: int = 8, **settings: Any) -> ServerEngine:
    tokenizer = Tokenizer(folder)
    limits = Limits(
        tokenizer.size, vocabulary(folder), stop_ids(generation_config(folder), tokenizer), context_length(folder)
    )
    config = Model(path=str(folder), engine=Engine(kind="server", url=url, **settings))
    return ServerEngine(folder, config, tokenizer, limits, Runtime(sample_rows=rows))


def ask(engine: ServerEngine, number: int = 1, logprobs: bool = False, **sampling: Any) -> Any:
    prompt = engine.tokenizer.core("75+6=")["input_ids"]
    requests = [Request(prompt, i, logprobs) for i in range(number)]
    return engine.sample(requests, Sampling(max_new_tokens=56, **sampling), lambda done: None)


def test_a_server_answers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is left to chance, as the transformers engine does; else as the seeds say."""
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    served = engine(url)
    own = load_model(STUDENT, Model(path=str(STUDENT)), torch.device("cpu"))
    requests = [Request(served.tokenizer.core(q)["input_ids"], 0) for q in ("75+6=", "8*7=", "3+4=", "91-12+5=")]
    for limit in (4, 56):
        greedy = Sampling(top_k=1, max_new_tokens=limit)
        found = served.sample(requests, greedy, lambda done: None)
        assert found == TransformersEngine(own, served.tokenizer, 4).sample(requests, greedy, lambda done: None)
    assert {r.finish for r in found} == {"stop"}
    pairs = [(r, ask(served, logprobs=True)[0]) for r in [Request(served.tokenizer.core("75+6=")["input_ids"], 0)]]
    assert gap(own, served.normalised, pairs).largest < 1e-3
    many = ask(served, 40, temperature=1.5)
    assert ask(served, 40, temperature=1.5) == many
    assert len({tuple(r.ids) for r in many}) > 1  # each seed draws its own


@pytest.mark.parametrize(
    ("key", "settings", "says"),
    [
        ("wrong", {}, "refuses the key: set VLLM_API_KEY to the server's"),
        ("secret", {"served_name": "large"}, "serves tiny, not large: set engine.served_name to one of them"),
    ],
)
def test_a_server_asked_wrongly(
    key: str, settings: dict[str, Any], says: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", key)
    with pytest.raises(EngineError) as error:
        ask(engine(url, **settings))
    assert str(error.value) == f"{url} {says}"


def test_a_server_of_another_model(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two digits have each other's ids."""
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    for file in STUDENT.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    core = json.loads((tmp_path / "tokenizer.json").read_text())
    ids = core["model"]["vocab"]
    ids["1"], ids["2"] = ids["2"], ids["1"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(core))
    with pytest.raises(ConfigError, match="has another tokenizer than"):
        ask(engine(url, tmp_path))


# Servers that cannot be had for real: one of text only, one that fails at first, and no server at all.


class Imitation(BaseHTTPRequestHandler):
    """As much of the protocol as the client looks at; ``failures`` answers of 503 come first."""

    failures = 0
    length = 96
    ids: list[int] | None = None
    seen: list[dict[str, Any]] = []  # noqa: RUF012
    at_once = most = 0
    together: threading.Barrier | None = None  # that so many requests are under way is waited for
    lock = threading.Lock()

    def log_message(self, *words: Any) -> None:
        pass

    def do_GET(self) -> None:
        card = {"id": "tiny", "object": "model", "created": 0, "owned_by": "x", "max_model_len": self.length}
        self.answer(200, {"object": "list", "data": [card]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/completions":
            return self.answer(404, {"message": "no such path"})
        kind = type(self)
        with self.lock:
            kind.seen.append(body)
            kind.failures -= 1
            failing = kind.failures >= 0
            kind.at_once += 1
            kind.most = max(kind.most, kind.at_once)
        if kind.together:
            kind.together.wait(60)
        with self.lock:
            kind.at_once -= 1
        if failing:
            return self.answer(503, {"message": "busy"})
        choice = {"index": 0, "text": "81", "finish_reason": "stop"} | ({"token_ids": self.ids} if self.ids else {})
        if body.get("logprobs") is not None:
            choice["logprobs"] = {"token_logprobs": [-0.5] * len(self.ids or ())}
        self.answer(200, {"id": "1", "object": "text_completion", "created": 0, "model": "tiny", "choices": [choice]})

    def answer(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def imitate() -> Iterator[Any]:
    servers = []

    def start(**attributes: Any) -> tuple[str, type[Imitation]]:
        kind = type("Own", (Imitation,), {"seen": [], "lock": threading.Lock(), **attributes})
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), kind))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/v1", kind

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_server_without_token_ids(imitate: Any) -> None:
    url, _ = imitate()
    with pytest.raises(EngineError) as error:
        ask(engine(url))
    assert str(error.value) == (f"{url} gives text but no token ids: use a vLLM server that knows return_token_ids")


def test_a_server_that_is_too_short(imitate: Any) -> None:
    url, _ = imitate(length=60)
    with pytest.raises(EngineError, match="takes 60 tokens, and prompt and response need 61: start the server with a"):
        ask(engine(url))


def test_a_server_that_fails_at_first(imitate: Any) -> None:
    """It is asked again, the same; and what is asked leaves nothing to the server's own defaults."""
    url, kind = imitate(failures=2, ids=[5, 1])
    assert [r.ids for r in ask(engine(url), top_p=0.9)] == [[5, 1]]
    assert len(kind.seen) == 3
    assert kind.seen[0] == kind.seen[2]
    spelled = {
        "model": "tiny", "prompt": [9, 7, 22, 8, 24], "max_tokens": 56, "temperature": 1.0, "top_p": 0.9, "top_k": 0,
        "min_p": 0, "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0, "stop_token_ids": [1],
        "seed": 0, "ignore_eos": True, "return_token_ids": True, "logit_bias": {str(i): -100 for i in range(27, 32)},
    }  # fmt: skip
    assert kind.seen[0] | {"prompt": spelled["prompt"]} == spelled


def test_a_server_tells_what_it_thinks_of_its_tokens(imitate: Any) -> None:
    url, _ = imitate(ids=[5, 1])
    assert [r.logprobs for r in ask(engine(url), logprobs=True)] == [[-0.5, -0.5]]
    assert [r.logprobs for r in ask(engine(url))] == [None]


def test_no_more_than_wanted_at_once(imitate: Any) -> None:
    url, kind = imitate(ids=[5, 1], together=threading.Barrier(3))
    assert len(ask(engine(url, rows=3), 12)) == 12
    assert kind.most == 3


def test_a_server_that_keeps_failing(imitate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paced.sampling.engines.server.RETRIES", 1)
    url, kind = imitate(failures=100, ids=[5, 1])
    with pytest.raises(EngineError, match="failed 2 times: see the server's own log"):
        ask(engine(url))
    assert len(kind.seen) == 2


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paced.sampling.engines.server.RETRIES", 1)
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(EngineError) as error:
        ask(engine(url))
    assert str(error.value) == f"{url} cannot be reached: start the server, or correct engine.url"
