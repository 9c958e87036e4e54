"""Stage 'preflight': what would spoil an expensive stage is found before the first one, and said in one line.

Reads configurations, tokenizers and the headers of weight files; no weights. What an architecture's code does is tried
on a small random model of it (paced/planning/rehearsal.py).
"""

import datetime
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paced.config import Recipe
from paced.config.extensions import import_all
from paced.config.stages import PreflightConfig
from paced.data.problems import problems_of
from paced.data.prompts import messages_of
from paced.distill.launch import check_configuration
from paced.errors import ConfigError, DataError, EngineError, PacedError
from paced.models import Tokenizer, check_length, same_tokens, vocabulary
from paced.planning.footprint import Shape, checkpoint_bytes, students_bytes
from paced.planning.models import check_architecture, check_end_ids, check_model, check_rows
from paced.planning.plan import drawn
from paced.sampling.engines import transformers, vllm
from paced.sampling.prompts import PromptStore
from paced.stage import Job
from paced.storage.artifacts import model_folder
from paced.storage.store import PACKED_BYTES, SAMPLE_BYTES, TARGET_BYTES
from paced.storage.tables import ProblemRow

PROBE = [{"role": "user", "content": "What is 1 + 1?"}, {"role": "assistant", "content": "The answer is 2."}]
NOON = datetime.datetime(2001, 2, 3, 12)  # when templates are compared, whatever the time
SWITCH = "enable_thinking"  # what chat templates call it


def _json(path: Path, folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except OSError:
        raise DataError(f"model folder {folder} has no {path.name}") from None
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error})") from None


def end_tokens(folder: Path, tokenizer: Tokenizer) -> set[str]:
    """The tokens that end a response: the tokenizer's, and those that the generation config adds."""
    path = folder / "generation_config.json"
    found = _json(path, folder).get("eos_token_id") if path.exists() else None
    ids = {tokenizer.eos, *([found] if isinstance(found, int) else found or [])}
    return {str(tokenizer.core.convert_ids_to_tokens(i)) for i in ids}


def check_tokenizer(folder: Path, tokenizer: Tokenizer, rows: int) -> None:
    """That every id has a row in the embedding, the padding id among them; but special tokens that no text needs.

    Raises:
        DataError: with the ids.
    """
    special = tokenizer.core.added_tokens_decoder
    last = max(i for i in tokenizer.core.get_vocab().values() if i not in special or i == tokenizer.eos)
    if rows and last >= rows:
        raise DataError(
            f"the tokenizer in {folder} has ids up to {last}, but the model's vocab_size is {rows}: tokenizer "
            "and weights do not belong together"
        )
    pad: Any = tokenizer.core.pad_token_id
    if pad is not None and rows and pad >= rows:
        raise DataError(f"the padding id {pad} of {folder} lies outside the model's vocab_size {rows}")


def check_thinking(folder: Path, tokenizer: Tokenizer, thinking: bool | None) -> None:
    """That a thinking mode is chosen where the chat template has one, and only there.

    Raises:
        ConfigError: with what to set.
    """
    switch = SWITCH in str(tokenizer.core.chat_template)
    if switch and thinking is None:
        raise ConfigError(
            f"thinking: the chat template of {folder} has a thinking mode; set thinking to true or false: its prompts, "
            "and so its pass rates, differ"
        )
    if thinking is not None and not switch:
        raise ConfigError(f"thinking: has no effect, the chat template of {folder} has no thinking mode: remove it")


def check_pair(student: Path, own: Tokenizer, teacher: Path, other: Tokenizer) -> None:
    """That both models read the same prompts and end their responses alike.

    Raises:
        ConfigError: with both sides.
    """
    same_tokens(own, other)
    ends = end_tokens(student, own), end_tokens(teacher, other)
    if own.eos != other.eos or not ends[0] & ends[1]:
        raise ConfigError(
            f"the student ends a response with {' or '.join(sorted(ends[0]))}, the teacher with "
            f"{' or '.join(sorted(ends[1]))}: the student would learn never to stop; use one tokenizer_config.json and "
            "generation_config.json for both"
        )
    if opening(own) != opening(other):
        raise ConfigError(
            f"the chat templates of {student} and {teacher} write the same conversation in different ways, and both "
            "models read the student's: copy chat_template.jinja from the one whose format both know"
        )


def opening(tokenizer: Tokenizer) -> str:
    """A prompt as the chat template writes it, at a time that does not pass."""
    return tokenizer.written(PROBE[:1], NOON, add_generation_prompt=True)


def check_turn(folder: Path, tokenizer: Tokenizer) -> None:
    """That the token with which the chat template ends an assistant's turn ends a response; none is as well.

    Raises:
        ConfigError: with the token, and where to name it.
    """
    answer = PROBE[-1]["content"]
    rest = tokenizer.written(PROBE).rpartition(answer)[2]
    added = {str(token): i for i, token in tokenizer.core.added_tokens_decoder.items() if str(token).strip()}
    ends = end_tokens(folder, tokenizer)
    # The first one; of two that begin at one place the longer.
    first = min((token for token in added if token in rest), key=lambda t: (rest.index(t), -len(t)), default=None)
    if first and first not in ends:
        raise ConfigError(
            f"the chat template of {folder} ends an assistant's turn with {first}, which ends no response (what does: "
            f"{', '.join(sorted(ends))}): every answer would run on to max_new_tokens; add its id {added[first]} to "
            "eos_token_id in generation_config.json, for student and teacher"
        )


def bytes_stored(recipe: Recipe, student: Shape, problems: int, benchmarks: Mapping[str, int]) -> float:
    """What a run leaves on disk if every response is as long as it may be, and what its trainings have beside that.

    That is a copy of the targets, and the last two checkpoints.
    """
    rank, seeds = recipe.training.lora_rank, len(recipe.seeds)
    stages = drawn(recipe, problems, benchmarks)
    tokens = {name: stage.runs * stage.each * stage.sampling.max_new_tokens for name, stage in stages.items()}
    positions = tokens.get("teacher answers", 0)
    arms = [recipe.stages_of(arm) for arm in recipe.arms]
    between = [steps.rounds - (not steps.forward) for steps in arms]  # trainings that another one follows
    students = sum(students_bytes(student, recipe.student.dtype, rank, number) for number in between)
    training = 2 * checkpoint_bytes(student, True, rank) + positions / seeds * PACKED_BYTES
    stored = sum(tokens.values()) * SAMPLE_BYTES + positions * TARGET_BYTES + seeds * students
    return stored + training * recipe.runtime.processes


def check_disk(home: Path, needed: float) -> None:
    """That what the run will store fits.

    Raises:
        EngineError: with both amounts.
    """
    free = shutil.disk_usage(home).free
    if needed > free:
        raise EngineError(
            f"the run may store {needed / 1e9:.1f} GB under {home}, where {free / 1e9:.1f} GB are free: free some or "
            "set PACED_HOME elsewhere; 'paced plan' tells what takes the room"
        )


def check_compiler() -> None:
    """That torch.compile finds the compiler it calls: C++ for a CPU, C for a GPU.

    Raises:
        EngineError: there is none.
    """
    known = (os.environ.get("CXX"), os.environ.get("CC"), "g++", "clang++", "gcc", "clang")
    if not any(shutil.which(name) for name in known if name):
        raise EngineError("training.compile needs a C++ compiler and none is on PATH: install g++, or set CXX")


def check_engines(job: Job, folders: Mapping[str, Path], trust: Mapping[str, bool]) -> None:
    """That each model can be sampled by its engine: vLLM can be started; what was found is logged.

    Where a fleet's hosts alone sample, vLLM is theirs, and each of them looks for it.

    Raises:
        ConfigError: with what to install or to set.
    """
    for role, folder in folders.items():
        if job.spec.engines[role].record.in_process:
            transformers.check(folder, trust[role])
    fleet = job.runtime.fleet
    samples = [e for e in job.spec.engines.values() if e.kind == "vllm" and (fleet is None or fleet.alone)]
    for found in dict.fromkeys(vllm.check(engine, job.runtime.device) for engine in dict.fromkeys(samples)):
        job.log(found)


def preflight(job: Job) -> None:
    """Inputs: student, teacher, ``problems/SEED``, ``benchmark/NAME``. File: preflight.json, what was found.

    Whatever stands in a model folder becomes one line: of what nobody thought of, the library's own words.

    Raises:
        DataError, ConfigError, EngineError: with what is wrong, where and what to do.
    """
    try:
        _checks(job)
    except (PacedError, MemoryError, OSError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        folders = " or ".join(dict.fromkeys(job.input(role).path for role in ("student", "teacher")))
        raise DataError(
            f"a file in model folder {folders} cannot be used ({type(error).__name__}: {error}): it is damaged, or of "
            "a kind that is not known; compare it with the published one"
        ) from error


def _checks(job: Job) -> None:
    recipe = PreflightConfig.model_validate(job.spec.config).recipe.model_copy(update={"runtime": job.runtime})
    import_all(job.spec.config)
    if recipe.training.compile:
        check_compiler()
    if job.runtime.accelerate:
        check_configuration(Path(job.runtime.accelerate))
    folders = {role: model_folder(job.input(role)) for role in ("student", "teacher")}
    trust = {"student": recipe.student.trust_remote_code, "teacher": recipe.teacher_model.trust_remote_code}
    tokenizers: dict[str, Tokenizer] = {}
    found: dict[str, Any] = {}
    shapes: dict[str, Shape] = {}
    for role, folder in folders.items():
        _json(folder / "config.json", folder)
        rows = vocabulary(folder)
        tokenizer = tokenizers[role] = Tokenizer(folder, trust[role], recipe.thinking)
        check_end_ids(folder, tokenizer, trust[role])
        check_tokenizer(folder, tokenizer, rows)
        check_thinking(folder, tokenizer, recipe.thinking)
        check_turn(folder, tokenizer)
        shapes[role] = check_model(recipe, role, folder, job.log)
        found[role] = {
            "parameters": shapes[role].parameters, "vocab_size": rows, "tokens": tokenizer.size,
            "ends": sorted(end_tokens(folder, tokenizer)),
        }  # fmt: skip
    check_engines(job, folders, trust)
    check_pair(folders["student"], tokenizers["student"], folders["teacher"], tokenizers["teacher"])
    check_rows(tokenizers["student"].size, folders["teacher"])
    for role, folder in folders.items():
        check_architecture(recipe, role, folder, job.log)

    for kind in ("problems", "benchmark"):
        for name, ref in job.inputs(kind).items():
            problems = problems_of(ref)
            prompts = PromptStore(job.home, tokenizers["student"])
            longest = check_prompts(problems, recipe, folders, prompts, kind == "problems")
            found[f"{kind}/{name}"] = {"problems": len(problems), "longest_prompt": longest}
            if kind == "problems" and len(problems) < recipe.training.batch:
                job.warn(
                    f"seed {name}: {len(problems)} problems, fewer than training.batch ({recipe.training.batch}): "
                    "a step draws some of them more than once"
                )
    problems = max(found[name]["problems"] for name in found if name.startswith("problems/"))
    benchmarks = {b.name: found[f"benchmark/{b.name}"]["problems"] for b in recipe.evaluation.benchmarks}
    needed = found["bytes_stored"] = bytes_stored(recipe, shapes["student"], problems, benchmarks)
    check_disk(job.home, needed)
    job.write_json("preflight.json", found)


def check_prompts(
    problems: list[ProblemRow], recipe: Recipe, folders: dict[str, Path], prompts: PromptStore, training: bool
) -> int:
    """That every prompt leaves room for its response, in the student's context and the teacher's; the longest one.

    They are rendered here for all that follows.

    Raises:
        DataError: with the question and the lengths.
    """
    sampled, judged = recipe.rollouts.sampling.max_new_tokens, recipe.evaluation.sampling.max_new_tokens
    stages = [recipe.stages_of(arm) for arm in recipe.arms]
    answered = {recipe.answers.sampling.max_new_tokens for steps in stages if steps.forward}
    answered |= {sampled for steps in stages if steps.reverse}
    longest = 0
    privileged = training and recipe.teacher.privileged
    contexts = prompts.ids(messages_of(problem, privileged) for problem in problems)
    for problem, prompt, context in zip(problems, prompts.ids(p["prompt"] for p in problems), contexts, strict=True):
        longest = max(longest, len(prompt))
        # The student is sampled, and trained on what it or the teacher said.
        new = max(sampled, *answered) if training else 1 if problem["choices"] else judged
        check_length(prompt, new, folders["student"], problem["question"])
        if training:
            check_length(context, max(answered), folders["teacher"], problem["question"])
    return longest
