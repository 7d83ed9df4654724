"""Write constraints.txt: the versions installed here of all that steel and its extras need.

python docs/write_constraints.py > constraints.txt
"""

import re
import sys
import tomllib
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from platform import machine, python_version

from packaging.requirements import Requirement

EXTRAS = ("train", "eval", "ui", "ray", "s3", "modelscope")
SERVER = ("moto", "flask")  # and flask-cors, of the extra `dev`
HEAD = """# The versions that the tests ran with (Python {python}, {system}, {date}), what they bring along included:
#   pip install -c constraints.txt "steel-lab[train,eval,ui,ray,s3]"
# torch was of the CPU; a build for a GPU has the same number.
# moto, flask and what comes with them are the S3 server of the tests (extra `dev`).
"""


def main() -> None:
    """Print a line a package; what is not installed is told on stderr."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    server = [line for line in extras["dev"] if line.startswith(SERVER)]
    lists = [project["dependencies"], *(extras[extra] for extra in EXTRAS), server]
    asked = [(Requirement(line), "") for lines in lists for line in lines]
    found: dict[str, str] = {}
    seen = set()
    while asked:
        requirement, extra = asked.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            there = distribution(requirement.name)
        except PackageNotFoundError:
            print(f"not installed: {requirement.name}", file=sys.stderr)
            continue
        found[re.sub(r"[-_.]+", "-", requirement.name).lower()] = there.version.partition("+")[0]
        for name in ("", *requirement.extras):
            if (requirement.name, name) not in seen:
                seen.add((requirement.name, name))
                asked += [(Requirement(line), name) for line in there.requires or ()]
    date = datetime.now(UTC).date()
    print(HEAD.format(python=python_version(), system=f"{sys.platform} {machine()}", date=date), end="")
    for name in sorted(found):
        print(f"{name}=={found[name]}")


if __name__ == "__main__":
    main()
