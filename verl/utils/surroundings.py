"""What a machine lends a run: locale, folders for sockets and caches, shared memory.

Guarantees: processes started after :func:`prepare_surroundings` read and write text as UTF-8, find
a folder whose sockets' paths are short enough, and write their caches where writing is allowed; a
setting of the user's own is kept wherever it can work.
"""

from __future__ import annotations

import logging
import os
import pwd
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from verl.errors import UserError

logger = logging.getLogger(__name__)

# A Unix socket's path has room for 107 bytes; Ray's names take 64 of them, and "/ray/" 5 more.
_LONGEST_SOCKET_FOLDER = 38
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
# Where libraries keep caches and settings, under the home folder if nothing else is said.
_CACHES = {
    "VLLM_CACHE_ROOT": "vllm",
    "VLLM_CONFIG_ROOT": "vllm_config",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "MPLCONFIGDIR": "matplotlib",
    "TRITON_CACHE_DIR": "triton",
    "WANDB_CACHE_DIR": "wandb_cache",
    "WANDB_CONFIG_DIR": "wandb_config",
    "WANDB_DATA_DIR": "wandb_data",
}
_RAY_TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
MIB = 2**20


class SurroundingsError(UserError):
    """The machine lacks something a run needs."""


def prepare_surroundings() -> None:
    """Sets the environment variables of this process and its children; call it before any starts.
    Raises :class:`SurroundingsError` if no folder can hold sockets or caches."""
    os.environ["PYTHONUTF8"] = "1"
    folder = socket_folder(os.environ.get("TMPDIR"))
    if folder is not None:
        logger.info(
            "TMPDIR is too long for the paths of sockets (%d bytes, %d fit): using %s",
            len(os.fsencode(os.environ["TMPDIR"])),
            _LONGEST_SOCKET_FOLDER,
            folder,
        )
        os.environ["TMPDIR"] = folder
        tempfile.tempdir = folder
    _name_the_user()
    if not has_writable_home():
        for variable, path in cache_folders(Path(tempfile.gettempdir())).items():
            os.environ.setdefault(variable, path)


def has_writable_home() -> bool:
    """Whether libraries can keep files under the home folder."""
    home = os.environ.get("HOME")
    return bool(home) and is_writable(Path(str(home)))


def provide_ray_token() -> None:
    """Gives a Ray that is started here a token of its own where it cannot keep one at home."""
    if os.environ.get("RAY_AUTH_MODE", "token") != "token":
        return
    given = any(os.environ.get(name) for name in _RAY_TOKEN_VARIABLES)
    kept = Path(os.environ.get("HOME", "/"), ".ray", "auth_token").is_file()
    if not (given or kept or has_writable_home()):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def socket_folder(temporary: str | None, candidates: Iterable[str] = _SHORT_FOLDERS) -> str | None:
    """What to use in place of a temporary folder whose name is too long; None keeps it. Raises
    :class:`SurroundingsError` if no candidate can be written to."""
    if temporary is None or len(os.fsencode(temporary)) <= _LONGEST_SOCKET_FOLDER:
        return None
    for candidate in candidates:
        if is_writable(Path(candidate)):
            return candidate
    raise SurroundingsError(
        f"TMPDIR={temporary} is too long for the paths of sockets "
        f"({_LONGEST_SOCKET_FOLDER} bytes fit); set it to a shorter folder"
    )


def cache_folders(base: Path) -> dict[str, str]:
    """Environment variables that send the libraries' caches to a folder of this user's in ``base``;
    raises :class:`SurroundingsError` if there can be none."""
    root = base / f"verl-{os.getuid()}"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SurroundingsError(
            f"neither the home folder nor {base} can be written to ({error.strerror}); set HOME "
            "or TMPDIR to a folder that can"
        ) from error
    if root.stat().st_uid != os.getuid():
        raise SurroundingsError(f"{root} belongs to another user; set TMPDIR to a folder of yours")
    return {variable: str(root / name) for variable, name in _CACHES.items()}


def is_writable(folder: Path) -> bool:
    """Whether files can be made in ``folder``."""
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _name_the_user() -> None:
    """Libraries look the user's name up, which fails for a uid without an account."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("USER", f"uid-{os.getuid()}")
        os.environ.setdefault("LOGNAME", os.environ["USER"])


def free_shared_memory(folder: str = "/dev/shm") -> int | None:
    """Bytes that can still be put into ``folder``; None where there is no such folder."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def require_shared_memory(free: int | None, needed: int) -> None:
    """Raises :class:`SurroundingsError` if fewer than ``needed`` bytes are ``free``."""
    if free is not None and free < needed:
        raise SurroundingsError(
            f"/dev/shm has {free / MIB:.0f} MiB free and this run needs {needed / MIB:.0f} MiB: "
            "start the container with --shm-size=2g (Docker) or an emptyDir of medium Memory at "
            "/dev/shm (Kubernetes), or remove what other runs left there"
        )
