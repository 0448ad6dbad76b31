"""What this distribution says it needs, and which of it is installed: read from the package's own metadata."""

import re
from dataclasses import dataclass
from importlib import metadata

REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*(\[(?P<extras>[^]]*)])?\s*(>=\s*(?P<minimum>[0-9.]+))?")
EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One package, with the least version and the version installed, if any."""

    name: str
    minimum: str | None
    installed: str | None

    @property
    def met(self) -> bool:
        """Whether it is installed in a version that will do."""
        return self.installed is not None and (self.minimum is None or _numbers(self.installed) >= _numbers(self.minimum))


def requirements() -> dict[str, list[Requirement]]:
    """Read the requirements by extra, the base ones under ""; empty when nobody installed the distribution."""
    try:
        lines = metadata.requires("semblance") or []
    except metadata.PackageNotFoundError:
        return {}
    direct: dict[str, list[re.Match[str]]] = {"": []}
    for line in lines:
        spec, _, marker = line.partition(";")
        extra = EXTRA.search(marker)
        match = REQUIREMENT.match(spec.strip())
        if match is not None:
            direct.setdefault(extra[1] if extra else "", []).append(match)
    return {extra: _resolved(extra, direct) for extra in direct}


def _resolved(extra: str, direct: dict[str, list[re.Match[str]]]) -> list[Requirement]:
    """Replace `semblance[other]` by what the other extra needs."""
    found: list[Requirement] = []
    for match in direct.get(extra, []):
        if match["name"] == "semblance":
            for other in (match["extras"] or "").split(","):
                found += _resolved(other.strip(), direct)
        else:
            found.append(Requirement(match["name"], match["minimum"], _installed(match["name"])))
    return found


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"[0-9.]*", version)[0].split(".") if part)  # type: ignore[index]  # * always matches
