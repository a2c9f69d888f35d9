"""The settings file, as types. `read_settings` is the only place that reads it."""

import difflib
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import (
    SettingsError as EnvironmentMistake,
)

from bridge.adders import Adder
from bridge.devices import AnyDevice
from bridge.errors import SettingsError
from bridge.sections import (
    Admin,
    Client,
    Mdns,
    Mqtt,
    SettledContract,
    Site,
    StoreFile,
    Usage,
    Vens,
    Vtn,
)
from bridge.sources import AnySource
from bridge.store.offered import VTN

ENV_PREFIX = "OPENADR_BRIDGE_"
M = TypeVar("M", bound=BaseModel)


class Settings(BaseSettings):
    """Everything the bridge can be told."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter="__"
    )

    site: Site = Site()
    store: StoreFile = StoreFile()
    vtn: Vtn = Vtn()
    openadr2: Vens | None = None
    admin: Admin | None = None
    sources: tuple[AnySource, ...] = ()
    devices: tuple[AnyDevice, ...] = ()
    adders: tuple[Adder, ...] = ()
    clients: tuple[Client, ...] = ()
    usage: Usage = Usage()
    contracts: tuple[SettledContract, ...] = ()
    mqtt: Mqtt | None = None
    mdns: Mdns = Mdns()

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Settings":
        for kind, parts in (("source", self.sources), ("device", self.devices)):
            names = [part.name for part in parts]
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"two {kind}s are named {twice[0]!r}; give each its own name")
        if VTN in {source.name for source in self.sources}:
            raise ValueError(f"a source is named {VTN!r}, as clients' own events are; name it else")
        ids = [client.id for client in self.clients]
        if twice := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"two clients have the id {twice[0]!r}; give each its own")
        contracts = [contract.id for contract in self.contracts]
        if len(set(contracts)) < len(contracts):
            raise ValueError("two contracts have one id; give each its own")
        chained = {a.program for a in self.adders} & {a.name for a in self.adders}
        if chained:
            raise ValueError(f"adders: {min(chained)!r} is derived itself; add to what it is of")
        programs = [name for s in self.sources for name in s.program_names.values()]
        programs += [adder.name for adder in self.adders]
        twice = sorted({n for n in programs if programs.count(n) > 1})
        if twice:
            raise ValueError(f"two programs are named {twice[0]!r}; give each a name of its own")
        return self


def read_settings(path: Path, *, files: bool = True) -> Settings:
    """Read a settings file and the environment over it.

    Raises SettingsError with one line: the file, the field, what is wrong and what would
    be right. Relative paths are relative to the file. Without `files` those that the
    settings name are not looked at: a store can be restored before the certificates are.
    """

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return env_settings, TomlConfigSettingsSource(settings_cls, path)

    try:
        if not path.is_file():
            raise SettingsError(
                f"{path}: is not there; docker/bridge.example.toml shows what it may say"
            )
        found = _resolve(FromFile(), path.resolve().parent)
        if files:
            _check_files(found)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    except ValidationError as error:
        raise SettingsError(f"{path}: {_first_mistake(error)}") from error
    except EnvironmentMistake as error:
        raise SettingsError(
            f"{path}: the environment ({ENV_PREFIX}…): {error}; a setting of a section is "
            f"{ENV_PREFIX}SECTION__KEY"
        ) from error
    except SettingsError as error:
        said = str(error)
        raise SettingsError(said if said.startswith(f"{path}:") else f"{path}: {said}") from error
    return found


def _resolve(model: M, base: Path) -> M:
    """Return a copy in which relative paths are relative to `base`."""
    return model.model_copy(update={k: _resolved(v, base) for k, v in model})


def _resolved(value: Any, base: Path) -> Any:
    if isinstance(value, Path):
        return base / value
    if isinstance(value, BaseModel):
        return _resolve(value, base)
    return tuple(_resolved(v, base) for v in value) if isinstance(value, tuple) else value


def _check_files(settings: Settings) -> None:
    """Look at every file that the settings name, in the order of the settings."""
    for section, listener in (("vtn", settings.vtn), ("admin", settings.admin)):
        if listener:
            _named(section, listener.tls)
    for source in settings.sources:
        _named(f"sources.{source.name}", source.check_files)
    for device in settings.devices:
        _named(f"devices.{device.name}", device.secret)
    for client in settings.clients:
        _named(f"clients.{client.id}", client.secret)
    if settings.openadr2:
        _named("openadr2", settings.openadr2.check_files)
    if settings.mqtt:
        _named("mqtt", settings.mqtt.check_files)


def _named(where: str, work: Any) -> None:
    try:
        work()
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from error


def _first_mistake(error: ValidationError) -> str:
    """Say the first mistake in one line: the field, what is wrong, what would be right."""
    # A key that is not known explains most others that are missing.
    mistakes = sorted(error.errors(), key=lambda m: m["type"] != "extra_forbidden")
    first = mistakes[0]
    where = ".".join(str(step) for step in _untagged(first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        said = "is not a setting" + _did_you_mean(first["loc"])
    elif first["type"] == "missing":
        said = "is missing"
    elif first["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        given = first.get("ctx", {}).get("tag")
        where += ".kind"
        said = f"is {given!r}" if given else "is missing"
        said += f"; write one of {', '.join(sorted(_tagged(Settings, first['loc'])))}"
    elif "ctx" in first and "expected" in first["ctx"]:
        said = f"is {first['input']!r}; write {first['ctx']['expected']}"
    elif not first["type"].startswith("value_error"):
        said = f"is {first['input']!r}; {said[0].lower()}{said[1:]}"
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    return f"{where}: {said}{more}" if where else f"{said}{more}"


def _untagged(loc: tuple[int | str, ...]) -> list[int | str]:
    """Return where a mistake is, without the kinds that pydantic puts after a list's index."""
    return [step for n, step in enumerate(loc) if not (n and step in _tagged(Settings, loc[:n]))]


def _did_you_mean(loc: tuple[int | str, ...]) -> str:
    found = _model_at(Settings, loc[:-1])
    names = list(getattr(found, "model_fields", {}))
    close = difflib.get_close_matches(str(loc[-1]), names, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(names)}"


def _model_at(model: Any, loc: tuple[int | str, ...]) -> Any:
    """Return the model that settings at `loc` are read as."""
    for n, step in enumerate(loc):
        kinds = _tagged(Settings, loc[:n])
        if step in kinds:
            model = kinds[str(step)]
        elif isinstance(step, str) and hasattr(model, "model_fields"):
            field = model.model_fields.get(step)
            model = next(iter(_models_in(field.annotation)), model) if field else model
    return model


def _tagged(model: Any, loc: tuple[int | str, ...]) -> dict[str, Any]:
    """Return the models, by their `kind`, among which an item of a list is read as one."""
    if len(loc) != 2 or loc[0] not in model.model_fields or not isinstance(loc[1], int):
        return {}
    found = _models_in(model.model_fields[loc[0]].annotation)
    return {get_args(m.model_fields["kind"].annotation)[0]: m for m in found}


def _models_in(annotation: Any) -> list[Any]:
    """Return the models inside an annotation such as `tuple[OpenADR2, ...]` or `Admin | None`."""
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [m for inner in get_args(annotation) for m in _models_in(inner)]
