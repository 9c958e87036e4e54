"""What a ``paced`` command imports that holds no setting of a home: loaded once, for all that are forked from it.

Prefect is not among it: it takes its settings from the environment when it is imported.
"""

import importlib
import os
from pathlib import Path

from paced.stage import STAGES
from paced_deployments.environment import settings

os.environ |= {k: v for k, v in settings(Path()).items() if not k.startswith(("PACED_", "PREFECT_"))}

for module in (
    "harness", *(stage.program.partition(":")[0] for stage in STAGES.values()), "paced.__main__", "paced.report",
    "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store", "matplotlib.figure",
    "sqlalchemy.ext.asyncio", "fastapi", "httpx", "griffe", "rich.progress", "websockets",
):  # fmt: skip
    importlib.import_module(module)
