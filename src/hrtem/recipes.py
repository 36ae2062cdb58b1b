"""The recipes in ``conf/``: composition without Hydra's command line, descriptions for --help, and typo suggestions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import hrtem
from hrtem.errors import InputError

_HERE = Path(hrtem.__file__).resolve().parent
#: Folder of the recipes: inside an installed package, or next to the source in a clone.
CONF = next((place for place in (_HERE / "conf", _HERE.parents[1] / "conf") if place.is_dir()), _HERE / "conf")

#: Patterns of the messages of Hydra and OmegaConf about an unknown word.
UNKNOWN = (r"Could not override '([\w.@/]+)'", r"Key '([\w.]+)' is not in struct")
#: Alternative names of choices by group, in lower case.
ALIASES = {"sample": {"au": "gold"}}


def register() -> None:
    """Register the OmegaConf resolver of the recipes: ``${len:list}``, ``${len:list,list}`` (total length)."""
    OmegaConf.register_new_resolver("len", lambda *lists: sum(map(len, lists)), replace=True)


def compose(*words: str, name: str = "train") -> DictConfig:
    """Compose the configuration for the ``words`` of a command line.

    Args:
        words: words of the form ``key=value``, in Hydra's grammar.
        name: name of the recipe, with its subfolder if it has one, such as ``prediction/find``.

    Raises:
        InputError: the recipe does not exist, or a word is unknown.
    """
    place, _, name = name.rpartition("/")
    if not (CONF / place / f"{name}.yaml").is_file():
        raise InputError(f"the recipes must lie beside the source, and {CONF / place / name}.yaml does not exist.")
    register()
    with initialize_config_dir(str(CONF / place), version_base="1.3"):
        try:
            return hydra_compose(name, overrides=spell(words) if not place else list(words))
        except (HydraException, OmegaConfBaseException) as error:
            meant = suggestion(error, hydra_compose(name))
            if meant is None:
                raise
            raise InputError(meant) from None


def spell(words: Sequence[str]) -> list[str]:
    """Replace each choice of a group by the name of its file: ``sample=Au`` becomes ``sample=gold``.

    Upper and lower case are equivalent; other words stay unchanged.

    Raises:
        InputError: a choice is null, a number or another value that is no name.
    """
    return [_spelt(word) for word in words]


def _spelt(word: str) -> str:
    group, equals, said = word.partition("=")
    if not equals or group not in groups():
        return word
    choices = {place.stem.lower(): place.stem for place in (CONF / group).glob("*.yaml")} | ALIASES.get(group, {})
    with suppress(HydraException):  # told when Hydra reads the word again
        value = OverridesParser.create().parse_override(word).value()
        if value is None or isinstance(value, (bool, int, float, dict)):
            raise InputError(f"{group} must be {_listed(sorted(set(choices.values())))}, got {said}.")
    return f"{group}={','.join(choices.get(one.lower(), one) for one in said.split(','))}"


def suggestion(error: BaseException, config: DictConfig | None = None) -> str | None:
    """Suggest correct words for a misspelt word in one sentence; None if ``error`` has another cause.

    Args:
        error: exception of Hydra or OmegaConf.
        config: configuration that contains the correct words; None uses ``train``.
    """
    text = str(error)
    found = next((match for pattern in UNKNOWN if (match := re.search(pattern, text))), None)
    if found is None:
        return None
    whole = re.search(r"full_key: ([\w.]+)", text)
    word = (whole or found).group(1)
    known = sorted(set(keys(compose() if config is None else config)) | groups())
    near = get_close_matches(word, known, n=3, cutoff=0.6)
    # For optics.defocs, or defocus alone: words whose last part is similar.
    last = word.rpartition(".")[2]
    near += [one for one in known if "." in one and get_close_matches(last, [one.rpartition(".")[2]], cutoff=0.85)]
    near = list(dict.fromkeys(near))[:3]
    return f"{word} is no word of the recipe{f'; did you mean {_listed(near)}?' if near else '.'}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def keys(config: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """Yield all words of a configuration, such as ``optics.dose``."""
    raw = OmegaConf.to_container(config, resolve=False) if isinstance(config, DictConfig) else config
    assert isinstance(raw, Mapping)
    for key, value in raw.items():
        name = str(key)
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from keys(value, f"{prefix}{name}.")


def groups() -> set[str]:
    """Return the configuration groups; each group is a folder of choices."""
    return {place.name for place in CONF.iterdir() if place.is_dir() and place.name != "prediction"}


@dataclass(frozen=True)
class Word:
    """One word of a recipe.

    Attributes:
        name: name on the command line.
        value: text of the value in the file.
        about: comment in the file: meaning, unit, choices.
    """

    name: str
    value: str
    about: str


def described(path: Path, prefix: str = "") -> Iterator[Word]:
    """Read the words of a recipe file with their comments.

    Args:
        path: path of the file.
        prefix: prefix of the words, such as ``optics.``.
    """
    parents: list[tuple[int, str]] = []
    skipped = -1
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"^( *)([A-Za-z_]\w*):\s*(.*?)\s*(?:#\s*(.*))?$", line)
        if match is None:
            continue
        indent, name, value, about = len(match[1]), match[2], match[3], match[4] or ""
        if 0 <= skipped < indent:
            continue
        skipped = -1
        if indent == 0 and name in ("defaults", "hydra"):
            skipped = indent
            continue
        while parents and parents[-1][0] >= indent:
            parents.pop()
        full = prefix + ".".join([*(parent for _, parent in parents), name])
        if not value:
            parents.append((indent, name))
        # A word without a comment is left out if it only refers to another word or has subordinate words.
        if not name.startswith("_") and (about or (value and "${" not in value)):
            yield Word(full, value, about)


def first_comment(path: Path) -> str:
    """Return the comment in the first lines of a recipe file."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def help_of(name: str) -> str:
    """Describe the words of a recipe with values, units, meanings and choices, from the comments in its files."""
    path = CONF / f"{name}.yaml"
    parts = [first_comment(path), *_table(list(described(path)))]
    if name != "prediction/find":
        if name != "train":
            parts += ["", "The words of a training:", *_table(list(described(CONF / "train.yaml")))]
        parts += ["", "Choices, said as group=choice:"]
        chosen = _chosen(CONF / "train.yaml")
        for group in sorted(groups()):
            choices = sorted(one.stem for one in (CONF / group).glob("*.yaml"))
            parts += ["", f"{group}: {' | '.join(choices)}{f' (now {chosen[group]})' if group in chosen else ''}"]
            if group in chosen:
                prefix = {"loss": "task.loss.", "peaks": "task.peaks.", "target": ""}.get(group, f"{group}.")
                file = CONF / group / f"{chosen[group]}.yaml"
                parts += [f"  {line}" for line in [first_comment(file), *_table(list(described(file, prefix)))] if line]
    return "\n".join(parts)


def _chosen(path: Path) -> dict[str, str]:
    """Read the choice of each group in the defaults of a recipe."""
    answer: dict[str, str] = {}
    raw = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(raw, dict)
    for entry in raw.get("defaults", []):
        if isinstance(entry, dict):
            for group, choice in entry.items():
                if choice:
                    answer[str(group)] = str(choice)
    return answer


def _table(words: Sequence[Word]) -> list[str]:
    """Format words as lines with name, value and meaning."""
    if not words:
        return []
    width = min(34, max(len(f"{word.name}={word.value}") for word in words))
    return [f"  {f'{word.name}={word.value}':<{width}}  {word.about}".rstrip() for word in words]
