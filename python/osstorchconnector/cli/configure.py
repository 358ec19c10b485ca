"""``osst configure``: profiles, which hold endpoint, region and the place of credentials."""

import argparse
import dataclasses
import sys
from typing import Final

from osstorchconnector._printable import printable
from osstorchconnector.cli.ending import report, say
from osstorchconnector.cli.output import emit
from osstorchconnector.connection.profiles import (
    DEFAULT_PROFILE,
    PLACES,
    Profile,
    profiles_path,
    read_profile,
    read_profiles,
    write_profiles,
)
from osstorchconnector.exceptions import OssConfigError

_FIELDS: Final = tuple(field.name for field in dataclasses.fields(Profile))


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "configure",
        help="make, show and remove profiles",
        description="Make or change a profile, which holds endpoint, region and the place of credentials, and never a "
        "secret. Without options it asks on the terminal. `osst COMMAND --profile NAME`, OSS_PROFILE and the storage "
        "option 'profile' of oss:// use it; the profile 'default' is used if no endpoint is given.",
        epilog="A PLACE is one of: " + "; ".join(PLACES.values()) + ".",
    )
    parser.add_argument("name", nargs="?", default=DEFAULT_PROFILE, help="the profile (default: %(default)s)")
    parser.add_argument("--endpoint", metavar="HOST", help="endpoint of the buckets' region; empty: none")
    parser.add_argument("--region", metavar="ID", help="region ID; empty: that of the endpoint")
    parser.add_argument("--credentials", metavar="PLACE", help="where the access key comes from (default: chain)")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--list", action="store_true", help="print all profiles")
    group.add_argument("--show", action="store_true", help="print this profile")
    group.add_argument("--remove", action="store_true", help="remove this profile")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each profile")
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    given = {name: getattr(options, name) for name in _FIELDS if getattr(options, name) is not None}
    if given and (options.list or options.show or options.remove):
        options.parser.error("--list, --show and --remove take no values")
    if options.list:
        for name, profile in sorted(read_profiles().items()):
            _show(name, profile, as_json=options.json)
        return 0
    if options.show:
        _show(options.name, read_profile(options.name), as_json=options.json)
        return 0
    if options.remove:
        read_profile(options.name)
        write_profiles({name: profile for name, profile in read_profiles().items() if name != options.name})
        return 0
    if not options.name or any(not character.isprintable() for character in options.name):
        options.parser.error("the name of a profile has printable characters only")
    profiles = read_profiles()
    profile = profiles.get(options.name, Profile())
    if not given:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            options.parser.error("there is no terminal to ask on: give --endpoint, --region or --credentials")
        given = _asked(profile)
    profiles[options.name] = dataclasses.replace(profile, **given)
    write_profiles(profiles)
    report("configure", f"profile {options.name!r} is in {profiles_path()}")
    return 0


def _asked(profile: Profile) -> dict[str, str]:
    """Ask for each value on the terminal; an empty line keeps the one in brackets."""
    questions = {
        "endpoint": "Endpoint, such as oss-cn-hangzhou-internal.aliyuncs.com",
        "region": "Region ID; empty if the endpoint names it",
        "credentials": f"Place of credentials: {'; '.join(PLACES.values())}\n",
    }
    given: dict[str, str] = {}
    for name, question in questions.items():
        while True:
            sys.stderr.write(f"{question} [{printable(getattr(profile, name))}]: ")
            sys.stderr.flush()
            line = sys.stdin.readline()
            if not line:
                raise OssConfigError("the input ended; nothing was changed")
            try:
                answer = line.strip() or getattr(profile, name)
                dataclasses.replace(profile, **{name: answer})
            except OssConfigError as error:
                report("configure", error)
            else:
                given[name] = answer
                break
    return given


def _show(name: str, profile: Profile, *, as_json: bool) -> None:
    if as_json:
        emit({"name": name, **dataclasses.asdict(profile)})
    else:
        say(f"{name}: endpoint {profile.endpoint or '-'}, region {profile.region or '-'}, {profile.credentials}")
