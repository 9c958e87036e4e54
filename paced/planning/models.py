"""Whether a recipe's models can be used as it wants, before anything is sampled: for preflight and plan."""

from collections.abc import Callable
from pathlib import Path

from paced.config import Model, Recipe
from paced.errors import ConfigError, DataError
from paced.models import Tokenizer, empty_model, generation_config, vocabulary
from paced.models.checks import check_ends, check_files, headers, ignored, quantization
from paced.models.lora import adapted_layers
from paced.planning.footprint import Shape
from paced.planning.rehearsal import Rehearsal, rehearse

Log = Callable[[str], None]


def model_of(recipe: Recipe, role: str, folder: Path) -> Model:
    """The recipe's student or teacher, whose files lie in ``folder``."""
    model = recipe.student if role == "student" else recipe.teacher_model
    return model.model_copy(update={"path": str(folder)})


def check_model(recipe: Recipe, role: str, folder: Path, log: Log) -> Shape:
    """That the files of a folder are those of one model, which takes all of its weights.

    Returns:
        what file sizes follow from; the rest may be known to a model's own code alone.

    Raises:
        DataError: with the file, or the tensors and their sizes.
    """
    headers(folder)
    check_files(folder)
    if role == "student" and (method := quantization(folder)):
        raise DataError(
            f"the student in {folder} is quantized ({method}), and rounded weights cannot be trained: take the model's "
            "unquantized weights"
        )
    model = empty_model(folder, model_of(recipe, role, folder))
    if left := ignored(folder, model):
        log(
            f"{role}: {len(left)} tensors of {folder}, among them {min(left)}, are left out by the model's own code; "
            "a stored student does not have them"
        )
    tensors = {name: tuple(p.shape) for name, p in model.named_parameters()}
    layers = frozenset(adapted_layers(model))
    return Shape(folder.name, str(folder), tensors, 0, vocabulary(folder), 0, 0, 0, 0, False, "", {}, layers, 0)


def check_architecture(recipe: Recipe, role: str, folder: Path, log: Log) -> None:
    """That the model's architecture does what the recipe wants of it.

    Raises:
        ConfigError: with the first operation that it does not.
    """
    model = model_of(recipe, role, folder)
    answers = any(recipe.stages_of(arm).forward for arm in recipe.arms)
    sampled = model.engine.record.in_process and (role == "student" or answers)
    if why := rehearse(folder, model, Rehearsal(sampled, recipe.training if role == "student" else None)):
        log(f"{role}: no model of this architecture is small enough to be tried before the run: {why}")


def check_rows(known: int, teacher: Path) -> None:
    """That the teacher has a row for each of the ``known`` ids of the student's tokenizer.

    Raises:
        ConfigError: with both numbers.
    """
    rows = vocabulary(teacher)
    if rows and rows < known:
        raise ConfigError(
            f"the teacher in {teacher} has {rows} rows of ids (vocab_size), the student's tokenizer {known} ids: the "
            "student would be taught nothing about the others; choose a teacher of the same family that has them"
        )


def check_end_ids(folder: Path, tokenizer: Tokenizer, trust_remote_code: bool) -> None:
    """That the ids which end a response are ids of tokens.

    Raises:
        DataError: with the id.
    """
    last = max(tokenizer.core.get_vocab().values())
    check_ends(folder, generation_config(folder, trust_remote_code).eos_token_id, last)


def check_planned(recipe: Recipe) -> None:
    """The same for models whose folders are there, as far as their files are.

    Raises:
        PacedError: see the other functions of this module.
    """
    folders = {"student": Path(recipe.student.path), "teacher": Path(recipe.teacher_model.path)}
    for role, folder in folders.items():
        if (folder / "config.json").exists():
            if any(folder.glob("*.safetensors")):
                check_model(recipe, role, folder, lambda message: None)
            check_architecture(recipe, role, folder, lambda message: None)
    student, teacher = folders.values()
    if any(student.glob("tokenizer*")) and (teacher / "config.json").exists():
        tokenizer = Tokenizer(student, recipe.student.trust_remote_code, recipe.thinking)
        check_end_ids(student, tokenizer, recipe.student.trust_remote_code)
        check_rows(tokenizer.size, teacher)
