"""Runs Stable-Baselines3's own tests with GSAC in the roles of DQN, SAC, A2C and sb3-contrib's QRDQN.

    python benchmarks/sb3_suite.py
    python benchmarks/sb3_suite.py --sdist stable_baselines3-2.9.2.tar.gz --sdist sb3_contrib-2.9.2.tar.gz --only test_her

The tests are part of both source distributions. pip downloads them into a temporary folder, unless ``--sdist`` names the
files, and pytest runs them there, file by file; :mod:`sb3_roles` says which class replaces which. Each case that is about
one of the four must pass, or ``sb3_not_applicable.yml`` gives the reason why it does not apply to GSAC; otherwise the command
fails, also if a reason there fits no case. Cases that SB3 skips without a GPU count as not applicable. Writes
``results/sb3_suite.json``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import studies
import yaml

RESULTS = studies.RESULTS / "sb3_suite.json"
SDISTS = {"stable_baselines3": "stable-baselines3==2.9.2", "sb3_contrib": "sb3-contrib==2.9.2"}

COUNTED = ("run", "passed", "not applicable", "failed")

NOT_APPLICABLE: dict[str, str] = {
    case: reason
    for reason, cases in yaml.safe_load(Path(__file__).with_name("sb3_not_applicable.yml").read_text()).items()
    for case in cases
}
"""Cases, with ``*`` for any characters -> why they say nothing about GSAC."""


def reason_not_to_run(case: str) -> str | None:
    """The reason why a case, ``package/file.py::test[parameters]``, does not apply to GSAC; None if it applies."""
    return next((reason for pattern, reason in NOT_APPLICABLE.items() if matches(pattern, case)), None)


def matches(pattern: str, case: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), case) is not None


def download(folder: Path) -> list[Path]:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", str(folder)]
    subprocess.run([*command, *SDISTS.values()], check=True)
    return sorted(folder.glob("*.tar.gz"))


def unpack(sdist: Path, folder: Path) -> str:
    """Unpacks the tests into ``folder/PACKAGE``. Returns the package's name.

    sb3-contrib's package comes with its tests, since gsac does not need it installed.
    """
    (package,) = [name for name in SDISTS if sdist.name.replace("-", "_").startswith(name)]
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdists", filter="data")
    (source,) = (folder / "sdists").glob(f"{package}-*")
    (source / "tests").rename(folder / package)
    if package == "sb3_contrib":
        (folder / "packages").mkdir()
        (source / package).rename(folder / "packages" / package)
    return package


def run(file: Path, folder: Path) -> dict[str, dict[str, str]]:
    """Runs one file of tests. Returns the outcome of each case."""
    found = folder / "cases.json"
    found.unlink(missing_ok=True)
    paths = [str(folder / "packages"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        "PYTHONPATH": os.pathsep.join(paths),
        "SB3_ROLES_RESULT": str(found),
        "SB3_ROLES_PACKAGE": file.parent.name,
    }
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = expensive: not run by default\n")
    options = ["-q", "-p", "sb3_roles", "-p", "no:cacheprovider", "-c", str(folder / "pytest.ini"), "--tb=short"]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--rootdir={folder}", str(file)],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if finished.returncode not in (0, 1, 5) or not found.exists():  # 5: no case of the file is about one of the four
        return {f"{file.parent.name}/{file.name}": {"outcome": "not run", "reason": finished.stdout[-4000:]}}
    return json.loads(found.read_text())


def main() -> int:
    parser = studies.command_line(__doc__)
    parser.add_argument("--sdist", type=Path, action="append", help="a source distribution that is already here")
    parser.add_argument("--only", default="", help="files whose name starts so; writes no result")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        packages = [unpack(sdist, folder) for sdist in arguments.sdist or download(folder)]
        files = [file for package in packages for file in sorted((folder / package).glob("test_*.py"))]
        cases: dict[str, dict[str, str]] = {}
        by_file: dict[str, dict[str, int]] = {}
        print(line("file", {name: name for name in COUNTED}))
        for file in files:
            if file.stem.startswith(arguments.only):
                ran = run(file, folder)
                cases |= ran
                if ran:
                    name = f"{file.parent.name}/{file.name}"
                    by_file[name] = counts(ran.values())
                    print(line(name, by_file[name]), flush=True)
                for case, found in ran.items():
                    if found["outcome"] not in ("passed", "not applicable"):
                        print(f"\n{found['outcome'].upper()} {case}\n{found['reason']}\n", flush=True)
    total = counts(cases.values())
    print(line("all", total))
    whole = not arguments.only and set(packages) == set(SDISTS)
    unused = [pattern for pattern in NOT_APPLICABLE if whole and not any(matches(pattern, case) for case in cases)]
    for pattern in unused:
        print(f"\nNO SUCH CASE {pattern}")
    if whole:
        studies.write(RESULTS, {"tests": list(SDISTS.values()), "counts": total, "files": by_file})
    return 1 if total["failed"] or unused else 0


def counts(found: Iterable[dict[str, str]]) -> dict[str, int]:
    outcomes = Counter(case["outcome"] for case in found)
    passed, elsewhere = outcomes["passed"], outcomes["not applicable"]
    run = outcomes.total() - elsewhere
    return dict(zip(COUNTED, (run, passed, elsewhere, run - passed), strict=True))


def line(name: str, row: Mapping[str, object]) -> str:
    return f"{name:45}" + "".join(f"{row[column]!s:>16}" for column in COUNTED)


if __name__ == "__main__":
    sys.exit(main())
