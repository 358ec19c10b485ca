"""``osst completion``: what a shell offers after Tab."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from osstorchconnector.cli.ending import say

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient

# Each script asks the tool, so that it never is out of date. The shell completes local files itself.
_SCRIPTS: Final = {
    "bash": """\
_osst() {
    local line=${COMP_LINE:0:COMP_POINT} current found
    local -a words
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=('')
    current=${words[${#words[@]}-1]}
    local IFS=$'\\n'
    found=($(osst completion candidates "${words[@]:1}" 2>/dev/null))
    # To bash a colon begins a new word.
    [[ $current == *:* && $COMP_WORDBREAKS == *:* ]] && found=("${found[@]#"${current%:*}:"}")
    COMPREPLY=("${found[@]}")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace
}
complete -o default -F _osst osst
""",
    "zsh": """\
#compdef osst
_osst() {
    local -a found
    found=("${(@f)$(osst completion candidates "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    found=(${found:#})
    if (( ${#found} )); then
        compadd -S '' -- ${(M)found:#*/}
        compadd -- ${found:#*/}
    else
        _files
    fi
}
# From a directory of $fpath, this file is what the first Tab runs.
if [[ ${funcstack[1]} == _osst ]]; then
    _osst "$@"
else
    compdef _osst osst
fi
""",
    "fish": """\
function __osst
    set -l found (osst completion candidates (commandline -opc)[2..] (commandline -ct) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c osst -f -a '(__osst)'
""",
}
_FILES: Final = {
    "bash": "~/.local/share/bash-completion/completions/osst",
    "zsh": "_osst in a directory of $fpath",
    "fish": "~/.config/fish/completions/osst.fish",
}

# A terminal shows no more, and Tab must not wait.
_MOST: Final = 200
_SECONDS: Final = 3.0


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    files = "; ".join(f"{shell}: {file}" for shell, file in _FILES.items())
    parser = commands.add_parser(
        "completion",
        help="print the completion script of a shell",
        description="Print the script that makes a shell complete commands, options, buckets and keys. Write it to a "
        f"file that the shell loads ({files}).",
    )
    parser.add_argument("shell", choices=(*_SCRIPTS, "candidates"), metavar="{bash,zsh,fish}", help="the shell")
    # What the scripts call: the words after the name of the program; the last one is being typed.
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    if options.shell != "candidates":
        if options.words:
            options.parser.error(f"unrecognized arguments: {' '.join(options.words)}")
        sys.stdout.write(_SCRIPTS[options.shell])
        return 0
    for candidate in candidates(options.words or [""]):
        say(candidate)
    return 0


def candidates(words: list[str]) -> Iterable[str]:
    """Return what the last of the words may become; nothing where the shell completes files."""
    from osstorchconnector.cli.__main__ import COMMANDS, build_parser  # noqa: PLC0415 - it imports this module by name

    *before, current = words
    command = next((word for word in before if not word.startswith("-")), None)
    if command is None:
        return [word for word in (*COMMANDS, "--help", "--version") if word.startswith(current)]
    if command not in COMMANDS:
        return []
    parser: argparse.ArgumentParser = build_parser(command)
    for word in before:
        parser = _below(parser).get(word, parser)
    if actions := _below(parser):
        return [name for name in actions if name.startswith(current)]
    return _arguments(parser, before, current)


def _arguments(parser: argparse.ArgumentParser, before: list[str], current: str) -> Iterable[str]:
    """Return what may be an argument or option of one command."""
    options = {name: action for action in parser._actions for name in action.option_strings}  # noqa: SLF001 - argparse has no public way to ask
    if current.startswith("-"):
        return sorted(name for name in options if name.startswith(current) and name.startswith("--"))
    taking = options.get(before[-1])
    if taking is not None and taking.nargs != 0:
        return [name for name in _values(taking) if name.startswith(current)]
    if current and "oss://".startswith(current):
        return ["oss://"]
    return _uris(current, before) if current.startswith("oss://") else []


def _below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:  # noqa: SLF001 - as above
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            return dict(action.choices)
    return {}


def _values(action: argparse.Action) -> Iterator[str]:
    if action.choices is not None:
        yield from map(str, action.choices)
    elif action.dest == "profile":
        from osstorchconnector.connection.profiles import read_profiles  # noqa: PLC0415 - few completions need it

        yield from sorted(read_profiles())


def _uris(current: str, before: list[str]) -> list[str]:
    from osstorchconnector.exceptions import OssError  # noqa: PLC0415 - only URIs need a client

    with contextlib.suppress(OSError, OssError):
        # A shell cannot show an error here.
        bucket, slash, prefix = current.removeprefix("oss://").partition("/")
        client = _client(before)
        if not slash:
            return [f"oss://{name}/" for name in client.list_buckets() if name.startswith(bucket)][:_MOST]
        from osstorchconnector.cli.listing import pages  # noqa: PLC0415 - as above

        rows, directories = next(pages(client, bucket, prefix, delimiter="/"), ([], []))
        keys = sorted({*directories, *(row[0] for row in rows)})
        return [f"oss://{bucket}/{key}" for key in keys[:_MOST]]
    return []


def _client(before: list[str]) -> "OssClient":
    from osstorchconnector.cli.client_arguments import add_arguments, connect  # noqa: PLC0415 - as above
    from osstorchconnector.connection.config import OssConfig  # noqa: PLC0415 - as above

    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    add_arguments(parser)
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123 - a device
        options, _ = parser.parse_known_args(before)
    return connect(options, OssConfig(total_timeout=_SECONDS, connect_timeout=_SECONDS, max_attempts=1))
