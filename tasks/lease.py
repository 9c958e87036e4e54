"""Who has the device: file locks, which the kernel frees when their holder dies, however it dies.

A GPU is leased on the host, whatever home a run belongs to. A home's runs on the CPU take turns among themselves only.
"""

import contextlib
import fcntl
import os
import stat
import tempfile
from pathlib import Path

from paced.config import Runtime
from paced.errors import ConfigError


def own_folder() -> Path:
    """The folder of this host for what is this user's alone and need not outlast a reboot.

    Raises:
        ConfigError: somebody else has made it, or it is a link.
    """
    folder = Path(tempfile.gettempdir()) / f"paced-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()  # whoever may write to the temporary folder can have put a link there
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ConfigError(f"{folder} is a link or belongs to another user: set TMPDIR to a folder of your own")
    folder.chmod(0o700)
    return folder


def gpus(device_files: Path = Path("/dev")) -> list[str]:
    """Names of the GPUs that this process's stages may use, as CUDA_VISIBLE_DEVICES or the driver has them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return sorted(path.name.removeprefix("nvidia") for path in device_files.glob("nvidia[0-9]*"))
    return sorted({name.strip() for name in given.split(",")} - {"", "-1"})


def locks(home: Path, runtime: Runtime) -> list[Path]:
    """The locks that a stage needs, one a device; each has ``runtime.processes`` places."""
    found = [] if runtime.device == "cpu" else gpus()
    if not found:
        return [home / "locks" / "slot"]
    return [own_folder() / f"gpu-{name}" for name in found]


def take(paths: list[Path], places: int) -> contextlib.ExitStack | None:
    """Hold a place of each lock until the stack is closed; all or none, so that two holders never wait in a ring."""
    with contextlib.ExitStack() as stack:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            for number in range(places):
                file = Path(f"{path}-{number}").open("w")  # noqa: SIM115
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.close()
                    continue
                stack.enter_context(file)
                break
            else:
                return None
        return stack.pop_all()
