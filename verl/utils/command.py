"""Runs a function as a command: errors a user can read, exit codes, surroundings.

Guarantees: a user's mistake ends in one clear line and exit code 2; Ctrl-C in 130. Importing this
module brings none of torch, ray, vllm, transformers and hydra, so that a command line can be parsed
and its help shown before anything is imported that takes seconds.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence

from verl.errors import UserError
from verl.utils.console import console, set_up_logging, show_error
from verl.utils.garbage import spare_the_collector
from verl.utils.redaction import redact_override
from verl.utils.surroundings import prepare_surroundings

_NO_PLACE_TO_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def run_as_command(
    main: Callable[[list[str]], object], arguments: Sequence[str] | None = None
) -> None:
    """Runs an entry point and exits with its code: 0, or what it returns if that is a number.
    ``main`` gets the arguments; None is the whole command line."""
    set_up_logging()
    _quieten_libraries()
    spare_the_collector()
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Trackers record the command line.
    sys.argv[1:] = [redact_override(argument) for argument in sys.argv[1:]]
    try:
        prepare_surroundings()
        code = main(given)
    except KeyboardInterrupt:
        console.print("[bold]interrupted[/]: every process of this run has been stopped")
        sys.exit(130)
    except Exception as error:
        mistake = _users_mistake(error)
        if mistake is None:
            raise
        show_error(mistake)
        sys.exit(2)
    if isinstance(code, int):
        sys.exit(code)


def _users_mistake(error: Exception) -> Exception | None:
    """What to show of an error that the user can act on; None for a fault of ours."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, (UserError, HydraException, OmegaConfBaseException)):
        return error
    if isinstance(error, OSError) and error.errno in _NO_PLACE_TO_WRITE:
        # Arrow puts the path into the text.
        return UserError(f"cannot write {error.filename or 'a file'}: {error.strerror}")
    return None


def _quieten_libraries() -> None:
    """Progress bars of the hub and of loading weights, which would tear our own; remarks of torch's
    native code, which are for who builds it."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # is read when they are imported
    if "transformers" in sys.modules:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
