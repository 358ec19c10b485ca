"""Check that a release can be made, and make it: RELEASING.md has the steps around it.

``python tools/release.py`` only checks, and prints what a release would do. ``--make`` builds the packages, dates the
changelog, commits and tags. ``--notes`` prints what the changelog says of the version in Cargo.toml. Nothing is pushed.
"""

import argparse
import datetime as dt
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent))

from check_wheel import version_of

UNRELEASED: Final = "## [Unreleased]\n"
#: What is built, checked and run before the tag. They leave their files in dist/.
BUILDS: Final = ("wheel", "sdist")


class Release:
    """The release of the version that a checkout has."""

    def __init__(self, root: Path) -> None:
        """Read what the checkout says of itself."""
        self.root = root
        cargo = (root / "Cargo.toml").read_text(encoding="utf-8")
        self.crates_version: str = tomllib.loads(cargo)["workspace"]["package"]["version"]
        self.version = version_of(cargo)
        self.tag = f"v{self.version}"
        self.changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")

    def git(self, *arguments: str) -> str:
        """Run git and return what it prints."""
        command = ["git", *arguments]
        return subprocess.run(command, cwd=self.root, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def notes(self) -> str:
        """Return what the changelog says of this version, or, before its release, of what is unreleased."""
        dated = re.search(rf"^## \[{re.escape(self.version)}\].*\n", self.changelog, flags=re.MULTILINE)
        heading = dated[0] if dated else UNRELEASED
        _, found, rest = self.changelog.partition(heading)
        return re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0].strip() if found else ""

    def findings(self) -> list[str]:
        """Return what stands against a release."""
        found = []
        if changed := self.git("status", "--porcelain"):
            found.append(f"files are changed: commit or restore them first:\n{changed}")
        if (branch := self.git("branch", "--show-current")) != "main":
            found.append(f"the branch is {branch or 'none'}: releases are made from main")
        if self.git("tag", "--list", self.tag):
            found.append(f"the tag {self.tag} exists: raise the version in Cargo.toml, and run cargo check")
        if f"## [{self.version}]" in self.changelog:
            found.append(f"CHANGELOG.md has a section for {self.version} already: raise the version in Cargo.toml")
        elif not self.notes():
            found.append("CHANGELOG.md says nothing below [Unreleased]")
        packages = tomllib.loads((self.root / "Cargo.lock").read_text(encoding="utf-8"))["package"]
        found += [
            f"Cargo.lock has {package['name']} {package['version']}, and Cargo.toml {self.crates_version}: "
            "run cargo check, and commit Cargo.lock"
            for package in packages
            if "source" not in package and package["version"] != self.crates_version
        ]
        return found

    def dated(self, day: dt.date) -> str:
        """Return the changelog with the date of the release, and an empty section for what comes after it."""
        return self.changelog.replace(UNRELEASED, f"{UNRELEASED}\n## [{self.version}] - {day.isoformat()}\n", 1)

    def make(self, day: dt.date) -> None:
        """Build, date, commit and tag."""
        for target in BUILDS:
            subprocess.run(["make", target], cwd=self.root, check=True)
        (self.root / "CHANGELOG.md").write_text(self.dated(day), encoding="utf-8")
        self.git("commit", "--quiet", "--message", f"Release {self.version}", "CHANGELOG.md")
        self.git("tag", "--annotate", self.tag, "--message", f"osstorchconnector {self.version}")


def main(arguments: list[str], root: Path) -> int:
    """Check or release; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--make", action="store_true", help="build, date the changelog, commit and tag")
    chosen.add_argument("--notes", action="store_true", help="print what the changelog says of this version")
    given = parser.parse_args(arguments)
    release = Release(root)
    if given.notes:
        print(release.notes())
        return 0
    if found := release.findings():
        print(f"{release.version} cannot be released:", *found, sep="\n- ", file=sys.stderr)
        return 1
    today = dt.datetime.now(dt.UTC).date()
    if not given.make:
        print(f"{release.version} can be released. With --make:")
        print(*(f"- make {target}" for target in BUILDS), sep="\n")
        print(f"- date the section of CHANGELOG.md: [{release.version}] - {today}, and commit it")
        print(f"- tag the commit: {release.tag}")
        return 0
    release.make(today)
    print(f"{release.tag} is tagged, and its packages are in dist/. To publish:")
    print(f"git push --atomic origin main {release.tag}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parent.parent))
