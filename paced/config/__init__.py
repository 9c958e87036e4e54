"""Recipes and stage configurations: typed, frozen, checked before anything heavy is imported.

What belongs here says what may be set; nothing here reads data or imports torch.
"""

from paced.config.sections import (
    Answers,
    Arm,
    Columns,
    Data,
    Decontamination,
    Device,
    Engine,
    Evaluation,
    Loss,
    Model,
    Notify,
    Precision,
    Recipe,
    Retraining,
    Runtime,
    Sampling,
    Schedule,
    Scheme,
    Teacher,
    Training,
    Weights,
    home,
)

__all__ = [
    "Answers",
    "Arm",
    "Columns",
    "Data",
    "Decontamination",
    "Device",
    "Engine",
    "Evaluation",
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
    "Teacher",
    "Training",
    "Weights",
    "home",
]
