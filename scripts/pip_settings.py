"""Runs uv where pip's configuration says: ``python scripts/pip_settings.py uv pip install …``.

uv reads no pip configuration. A machine that reaches packages through a mirror, a folder of wheels,
a proxy or a certificate of its own has that in pip's files and variables; they become the
environment variables of uv. What the user set for uv is kept. Settings travel in the environment,
never on a command line: an index's address may hold a password.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Mapping

# From the weakest to the strongest, as pip reads them.
_SECTIONS = ("global", "install", ":env:")
_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "trusted-host": "UV_INSECURE_HOST",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
# What uv's settings were called before, and still may be.
_FORMERLY = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}
# uv separates several folders of wheels by commas, everything else by spaces.
_COMMA_SEPARATED = ("UV_FIND_LINKS",)


def uv_settings(config_list: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of uv that say what ``pip config list`` printed.

    Args:
        config_list: lines ``section.key='value'``.
        environment: where a variable is set already, it stays as it is.
    """
    values: dict[str, str] = {}
    for section in _SECTIONS:
        for line in config_list.splitlines():
            name, _, quoted = line.partition("=")
            key = name.removeprefix(f"{section}.").lower().replace("_", "-")
            if name.startswith(f"{section}.") and key in _VARIABLES:
                values[_VARIABLES[key]] = str(ast.literal_eval(quoted))
    settings = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # pip's; the lock's hashes make it safe
    for variable, value in values.items():
        separator = "," if variable in _COMMA_SEPARATED else " "
        settings[variable] = separator.join(value.split())
    return {
        name: value
        for name, value in settings.items()
        if name not in environment and _FORMERLY.get(name, name) not in environment
    }


def _pip_config_list() -> str:
    command = [sys.executable, "-m", "pip", "config", "list"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout if result.returncode == 0 else ""  # this Python may have no pip


if __name__ == "__main__":
    environment = {**os.environ, **uv_settings(_pip_config_list(), os.environ)}
    os.execvpe(sys.argv[1], sys.argv[1:], environment)
