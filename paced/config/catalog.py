"""What a recipe can name: one record for each loss, weighting, schedule, engine, data source and verifier.

Everything that lists or describes them reads these tables: forms, checks, help, plots, plans, stages. A function is
named as ``module:function`` and imported only where it is called. Imports no torch.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from paced.errors import ConfigError


class LossRecord(NamedTuple):
    """``function`` maps (log q, log p), each [N, M], to values [N] and their gradient in the logits of q, [N, M].

    See paced/losses/divergences.py. ``parameters`` maps a field of an arm that the loss reads to the function's
    keyword.
    """

    function: str
    label: str
    parameters: Mapping[str, str] = {}


class WeightingRecord(NamedTuple):
    """``function`` maps (correct [N], wrong [N], settings) to weights [N] before normalisation: paced/weighting.py.

    The settings are the fields of section ``weights`` named in ``reads``, and ``options``: numbers of the weighting's
    own, with their defaults, which a recipe sets in ``weights.options``. ``keeps_all`` marks a weighting that needs no
    pass rates, because it gives every problem the same weight; ``advice`` is what to change when all weights are zero.
    """

    function: str
    label: str
    colour: str
    reads: tuple[str, ...] = ()
    options: Mapping[str, float] = {}
    keeps_all: bool = False
    advice: str = ""

    @property
    def takes_exponents(self) -> bool:
        return {"alpha", "beta"} <= set(self.reads)


class ScheduleRecord(NamedTuple):
    """Which training stages an arm has: on the teacher's answers (forward), and on its own samples (reverse)."""

    label: str
    forward: bool
    reverse: bool


class EngineRecord(NamedTuple):
    """``function`` makes the engine of a ``Sampler``: paced/sampling/sampler.py.

    ``reads`` are the fields of section ``engine`` that it alone reads. ``in_process`` says that it holds the model in
    the stage's own process, ``captures`` that it can give the distributions it draws from, and ``remote`` that it is a
    server, which holds the model somewhere else.
    """

    function: str
    reads: tuple[str, ...] = ()
    in_process: bool = False
    captures: bool = False
    remote: bool = False


class SourceRecord(NamedTuple):
    """``function`` maps (path, section ``data``) to ``Problem`` after ``Problem``: paced/data/layouts.py.

    ``reads`` are the fields of section ``data`` that it alone reads. ``verifier`` names what grades responses, where
    the recipe names none; ``choices`` marks multiple choice, judged by likelihood; ``numbers`` says that a gold answer
    which is no number is a fault of the data.
    """

    function: str
    label: str
    reads: tuple[str, ...] = ()
    verifier: str = "mathematics"
    choices: bool = False
    numbers: bool = False


class VerifierRecord(NamedTuple):
    """``function`` maps (response, gold, question) to whether the response is right; None says it cannot tell.

    It runs in a worker process with limits on time and memory, as paced/verify/workers/worker.py says. ``states`` is a
    response that states a gold answer, which stands for ``{}``. ``in_process`` marks one that runs in the calling
    process, and maps a ``Sample`` to a verdict and what is left for a worker: paced/verify/verifier.py.
    """

    function: str
    label: str
    states: str = "{}"
    in_process: bool = False


LOSSES = {
    "forward_kl": LossRecord("paced.losses.divergences:forward_kl", "forward KL"),
    "reverse_kl": LossRecord("paced.losses.divergences:reverse_kl", "reverse KL"),
    "jsd": LossRecord("paced.losses.divergences:jsd", "JSD", {"jsd_share": "share"}),
    "akl": LossRecord("paced.losses.divergences:akl", "AKL"),
}
WEIGHTINGS = {
    "beta": WeightingRecord("paced.weighting:beta", "beta", "#16395c", ("alpha", "beta", "shrinkage")),
    "uniform": WeightingRecord("paced.weighting:uniform", "uniform", "#8fb0cc", keeps_all=True),
    "hard_filter": WeightingRecord(
        "paced.weighting:hard_filter", "hard_filter", "#d49a1f", ("low", "high"),
        advice="widen weights.low and weights.high",
    ),
}  # fmt: skip
SCHEDULES = {
    "forward": ScheduleRecord("on the teacher's answers", True, False),
    "two_stage": ScheduleRecord("on the teacher's answers, then on own samples", True, True),
    "reverse": ScheduleRecord("on the student's own samples", False, True),
}
ENGINES = {
    "transformers": EngineRecord("paced.sampling.sampler:transformers_engine", in_process=True),
    "vllm": EngineRecord(
        "paced.sampling.sampler:vllm_engine", ("tensor_parallel", "data_parallel", "memory_share", "python"),
        captures=True,
    ),
    "server": EngineRecord("paced.sampling.sampler:server_engine", ("url", "served_name"), remote=True),
}
SOURCES = {
    "tiny": SourceRecord("paced.data.layouts:tiny", "the tiny world", ("mix",), "working"),
    "gsm8k": SourceRecord("paced.data.layouts:gsm8k", "the original GSM8K", numbers=True),
    "math": SourceRecord("paced.data.layouts:maths", "published layouts of competition mathematics"),
    "mmlu": SourceRecord(
        "paced.data.choices:multiple_choice", "multiple choice", ("subjects", "shots", "chat", "score"), choices=True
    ),
    "table": SourceRecord("paced.data.layouts:table", "a file of your own", ("columns",)),
}
VERIFIERS = {
    "mathematics": VerifierRecord(
        "paced.verify.verifier:mathematics", "the final answer, by the rules of mathematics", "\\boxed{{{}}}", True
    ),
    "working": VerifierRecord(
        "paced.verify.verifier:written_working", "the whole working of the tiny world", in_process=True
    ),
}

# Of a name in a recipe -> the table, and the group of entry points in which a package adds to it.
TABLES: dict[str, Mapping[str, Any]] = {
    "loss": LOSSES, "weighting": WEIGHTINGS, "schedule": SCHEDULES, "engine": ENGINES, "data source": SOURCES,
    "verifier": VERIFIERS,
}  # fmt: skip
GROUPS: dict[str, tuple[str, type]] = {
    "loss": ("paced.losses", LossRecord), "weighting": ("paced.weightings", WeightingRecord),
    "verifier": ("paced.verifiers", VerifierRecord), "data source": ("paced.data", SourceRecord),
}  # fmt: skip


def resolved(function: str) -> Callable[..., Any]:
    """The function that a record names as ``module:function``.

    Raises:
        ConfigError: it cannot be imported.
    """
    module, _, name = function.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # a module of somebody else's fails in its own way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{function} cannot be imported ({reason}): mend or uninstall its package") from None
    return found
