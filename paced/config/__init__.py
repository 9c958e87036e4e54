"""Recipes and stage configurations: typed, frozen, checked before anything heavy is imported.

What belongs here says what may be set; nothing here reads data or imports torch.
"""

from paced.config.arms import Arm, TrainingStages, Weights, stages_of
from paced.config.base import Device, Loss, Precision, Schedule, Scheme, Section, copies, home, store
from paced.config.data import Columns, Data, Decontamination
from paced.config.evaluation import Benchmark, Evaluation
from paced.config.fleet import Fleet
from paced.config.models import Engine, Model, Teacher
from paced.config.recipe import Recipe, Runtime
from paced.config.retraining import Notify, Retraining
from paced.config.sampling import Answers, Sampling
from paced.config.training import Training

__all__ = [
    "Answers",
    "Arm",
    "Benchmark",
    "Columns",
    "Data",
    "Decontamination",
    "Device",
    "Engine",
    "Evaluation",
    "Fleet",
    "Loss",
    "Model",
    "Notify",
    "Precision",
    "Recipe",
    "Retraining",
    "Runtime",
    "Sampling",
    "Schedule",
    "Scheme",
    "Section",
    "Teacher",
    "Training",
    "TrainingStages",
    "Weights",
    "copies",
    "home",
    "stages_of",
    "store",
]
