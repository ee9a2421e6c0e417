"""Settings: what the job is told, read once from files, environment and secrets, then frozen."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    TypeAdapter,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from etl.secrets import hide_secrets

NAME = r"^[a-z][a-z0-9_]*$"
MODEL_NAME = r"^[A-Za-z_]\w*\.[A-Za-z_]\w*$"
TABLE_NAME = r"^([A-Za-z_]\w*\.)?[A-Za-z_]\w*$"
Strategy = Literal["replace", "merge", "append_once"]
SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?\s*", re.IGNORECASE)
# Without `user:password@`: credentials have settings of their own.
WEB_ADDRESS = r"^https?://[^\s/@?#]+(/[^\s?#]*)?$"
YEAR_SECONDS = 366 * 24 * 3600


def _usable_path(path: Path) -> Path:
    if str(path) in {"", "."} or "\0" in str(path):
        raise ValueError("is no path of a file or folder")
    return path


def _usable_size(text: str) -> str:
    read_size(text)
    return text


def read_size(text: str) -> int:
    """Bytes of `100 MB`, `1.5 GiB`, `4096`.

    Raises:
        ValueError: it is no size.
    """
    match = SIZE.fullmatch(text)
    if match is None or float(match[1]) <= 0:
        raise ValueError("is no size: write 500 KB, 100 MB or 1 GB")
    unit = 1024 if match[3] else 1000
    return int(float(match[1]) * unit ** " kmgt".index((match[2] or " ").lower()))


# Labels that metrics have, and those that Prometheus gives itself.
LABELS = {
    "blocking", "change", "class", "etl_job", "instance", "job", "model", "profile", "resource",
    "source", "stage", "status", "target", "version",
}  # fmt: skip


def _free_label(name: str) -> str:
    if name in LABELS:
        raise ValueError("is a label of the metrics already")
    return name


# Beyond a year the timers of the operating system overflow.
Seconds = Annotated[float, Field(gt=0, le=YEAR_SECONDS)]
# Nobody waits long for a run that is over.
Notice = Annotated[float, Field(gt=0, le=60)]
Label = Annotated[str, Field(pattern=NAME), AfterValidator(_free_label)]
Place = Annotated[Path, AfterValidator(_usable_path)]
Variables = Annotated[
    dict[str, Any], AfterValidator(TypeAdapter(dict[str, JsonValue]).validate_python)
]
# What is a library's to check; the secrets in it are hidden.
Given = Annotated[dict[str, Any], AfterValidator(hide_secrets)]


class Part(BaseModel):
    """A frozen group of settings that knows all of its keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )


class RateLimit(Part):
    """At most `requests` in any window of `seconds`."""

    requests: PositiveInt = Field(description="requests in a window")
    seconds: Seconds = Field(description="length of the window")


class Volume(Part):
    """How many rows a source must bring; checked before anything is committed."""

    min_rows: int | None = Field(default=None, ge=0, description="fewer rows than this: code 3")
    max_drop: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="largest accepted fall against the last committed run, as a fraction",
    )


class Guards(Part):
    """Limits that keep a broken pagination from ending green or never."""

    max_pages: PositiveInt = Field(default=100_000, description="pages of one cursor chain")
    max_empty_pages: PositiveInt = Field(default=20, description="empty pages in a row")
    short_after: PositiveInt = Field(
        default=5, description="a single page is refused when the last run had at least this many"
    )
    omits_empty: bool = Field(
        default=False,
        description="an answer without the field of its rows, or with null there, is an empty page",
    )


class Source(Part):
    """One API: dlt's declarative REST configuration, or a factory, and what we add to it.

    Which keys belong together is checked in `etl.checks`, on the plain tree, so that these problems
    are told together with all others.
    """

    # dlt's own, exactly as documented by dlt
    client: Given | None = Field(default=None, description="dlt REST client")
    resource_defaults: Given = Field(
        default_factory=dict, description="what all resources of the source share, for dlt"
    )
    resources: tuple[Given | str, ...] = Field(default=(), description="dlt resources")
    # or Python
    factory: str | None = Field(
        default=None, pattern=r"^[\w.]+:[\w]+$", description="package.module:function"
    )
    arguments: Given = Field(default_factory=dict, description="given to the factory")
    # ours
    enabled: bool = Field(default=True, description="false: this source is not read")
    required: bool = Field(default=True, description="no row at all is a failure (code 3)")
    rate_limit: RateLimit | None = Field(
        default=None, description="kept by waiting, and what the API's own headers ask for"
    )
    volume: Volume = Volume()
    freshness: PositiveFloat | None = Field(
        default=None, description="hours after which the newest committed package is too old"
    )
    guards: Guards = Guards()
    schema_contract: (
        Literal["evolve", "freeze", "discard_row", "discard_value"] | dict[str, str] | None
    ) = Field(
        default=None, description="what dlt does with a table or column that is new or changed"
    )
    on_new_column: Literal["generate", "report"] = Field(
        default="report",
        description="what a run does about columns and tables that the models do not have",
    )
    for_each: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="placeholder: values; each resource that names {placeholder} runs per value",
    )
    stamp: dict[str, Literal["snapshot_date"]] = Field(
        default_factory=dict, description="column: value of this run that every row gets"
    )
    timeout_seconds: Seconds = Field(default=30, description="one request")
    attempts: PositiveInt = Field(default=5, le=100, description="tries of one request")


class Transform(Part):
    """How SQLMesh plans and runs."""

    approve: Literal["auto", "additive", "manual"] = Field(
        default="auto", description="which model changes a run applies by itself"
    )
    start: date = Field(default=date(2020, 1, 1), description="first interval of every model")
    dialect: str = Field(default="duckdb", description="SQL dialect of models that name none")
    variables: Variables = Field(
        default_factory=dict, description="SQLMesh's variables: `@name`, `var()` and the like"
    )
    pii: tuple[str, ...] = Field(
        default=(), description="columns masked in samples: column or schema.model.column"
    )


class TargetKind(NamedTuple):
    """Of one kind of target: the key that it needs, the keys that it may have, its own schema.

    The schema is that of tables which name none.
    """

    needs: Literal["path", "dsn", "destination"]
    may_have: tuple[str, ...]
    schema: str


TARGET_KINDS = {
    "duckdb": TargetKind("path", (), "main"),
    "parquet": TargetKind("path", (), "main"),
    "postgres": TargetKind("dsn", ("default_schema",), "public"),
    "mssql": TargetKind("dsn", ("default_schema",), "dbo"),
    "dlt": TargetKind("destination", ("options", "default_schema"), "public"),
}


class Target(Part):
    """A place where people read marts."""

    kind: Literal["duckdb", "parquet", "postgres", "mssql", "dlt"] = Field(
        description="one file, one folder per mart, a database, or a destination of dlt"
    )
    path: Place | None = Field(
        default=None, description="a file (duckdb) or folder (parquet), relative to data_dir"
    )
    dsn: SecretStr | None = Field(
        default=None,
        description="postgres: postgresql://user:password@host:5432/database; "
        "mssql: mssql://user:password@host:1433/database, or an ODBC connection string",
    )
    default_schema: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_]\w*$",
        description="postgres, mssql, dlt: schema of tables that name none, and of the "
        "bookkeeping; default: dbo at mssql, else public",
    )
    destination: str | None = Field(
        default=None, pattern=r"^[\w.]+$", description="dlt: its name, such as filesystem"
    )
    options: Given = Field(
        default_factory=dict, description="dlt: what the destination takes, as dlt documents it"
    )

    @property
    def schema_name(self) -> str:
        """The schema of tables that name none."""
        return self.default_schema or TARGET_KINDS[self.kind].schema


class Load(Part):
    """One mart that goes to one target."""

    model: str = Field(pattern=MODEL_NAME, description="schema.model, such as marts.orders")
    target: str = Field(description="one of `targets`")
    table: str | None = Field(
        default=None,
        pattern=TABLE_NAME,
        description="table or schema.table at the target; default: the model's name without schema",
    )
    key: tuple[str, ...] = Field(
        default=(), description="columns that identify a row; default: the model's grain"
    )
    strategy: Strategy = Field(
        default="replace",
        description="table becomes the mart; rows that left it stay (merge); "
        "and what is there is never changed (append_once)",
    )
    columns: tuple[str, ...] = Field(default=(), description="published columns; default: all")
    primary_key: bool = Field(
        default=True, description="a table without a primary key gets the load's key as one"
    )
    indexes: tuple[tuple[str, ...], ...] = Field(
        default=(), description="lists of columns, each an index of the table"
    )

    @property
    def target_table(self) -> str:
        """The table at the target.

        Without the model's schema: DuckDB calls the catalog of a file marts.duckdb `marts` too, so
        `marts.orders` would be ambiguous in it.
        """
        return self.table or self.model.rpartition(".")[2]


class Retry(Part):
    """Retries of a whole stage, for failures that may pass by themselves."""

    attempts: PositiveInt = Field(default=3, le=100, description="tries of a stage")
    first_wait_seconds: Seconds = Field(default=2, description="doubles with each try, with jitter")
    max_wait_seconds: Seconds = Field(default=60, description="longest wait between two tries")
    max_total_seconds: Seconds = Field(default=600, description="no new try after this")


class Log(Part):
    """What is logged, and how long it is kept."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="least level that is written"
    )
    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="standard error: text on a terminal, else JSON"
    )
    quiet: bool = Field(
        default=False,
        description="standard error gets only warnings and errors, as cron wants it",
    )
    rotation: Annotated[str, AfterValidator(_usable_size)] = Field(
        default="100 MB", description="size at which a run's log file is split"
    )
    retention: PositiveInt = Field(default=90, description="runs kept in runs/")


class Metrics(Part):
    """Where the numbers of each run go, in Prometheus' text format."""

    textfile: Place | None = Field(
        default=None,
        description="file for node_exporter's textfile collector, *.prom; relative to data_dir",
    )
    pushgateway: str | None = Field(
        default=None, pattern=WEB_ADDRESS, description="address of a Pushgateway"
    )
    username: str | None = Field(default=None, description="of the Pushgateway, by HTTP basic")
    password: SecretStr | None = Field(default=None, description="of the Pushgateway")
    timeout_seconds: Notice = Field(default=5, description="for all of one push")


class Traces(Part):
    """Where each run goes as OpenTelemetry spans."""

    endpoint: str | None = Field(
        default=None,
        pattern=WEB_ADDRESS,
        description="address that takes OTLP by HTTP, such as http://collector:4318/v1/traces",
    )
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="sent with the spans: a service's key, by its name"
    )
    timeout_seconds: Notice = Field(default=5, description="for the whole request")


class Notify(Part):
    """Whom a run tells how it ended."""

    webhook: SecretStr | None = Field(
        default=None, description="address that gets the failure as JSON; Slack shows its `text`"
    )
    when: tuple[Literal["failure", "recovery"], ...] = Field(
        default=("failure", "recovery"),
        description="a run that failed; the first good one after it",
    )
    timeout_seconds: Notice = Field(default=5, description="for the whole request")

    @field_validator("webhook", mode="after")
    @classmethod
    def _is_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"https?://[^\s/]", value.get_secret_value()):
            raise ValueError("is no address: write https://…")
        return value


class Settings(BaseSettings):
    """The whole configuration of one job."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    job: str = Field(
        default="etl", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="the job's name"
    )
    labels: dict[Label, str] = Field(
        default_factory=dict,
        description="whose job it is, or which: in run records, metrics, spans and notifications",
    )
    data_dir: Place = Field(
        default=Path("data"), description="relative to the project; a path without ' % = ?"
    )
    timeout: Seconds | None = Field(default=None, description="seconds for the whole run")
    demo: bool = Field(default=False, description="serve the replay while the run lasts")
    demo_date: date | None = Field(default=None, description="the day that the replay serves")
    log: Log = Log()
    metrics: Metrics = Metrics()
    traces: Traces = Traces()
    notify: Notify = Notify()
    retry: Retry = Retry()
    transform: Transform = Transform()
    sources: dict[str, Source] = Field(default_factory=dict, description="the APIs, by name")
    targets: dict[str, Target] = Field(
        default_factory=dict, description="the places where people read, by name"
    )
    loads: tuple[Load, ...] = Field(default=(), description="which mart goes where")

    # Set by the loader, never by a file.
    project: Path = Field(default=Path(), exclude=True, json_schema_extra={"internal": True})
    profile: str = Field(default="default", exclude=True, json_schema_extra={"internal": True})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `etl.configuration` hands in: it merged all layers and knows their origin."""
        return (init_settings,)

    @property
    def data(self) -> Path:
        """The data directory, absolute."""
        return self.data_dir if self.data_dir.is_absolute() else self.project / self.data_dir

    @property
    def warehouse(self) -> Path:
        """The working place: raw, staging, marts."""
        return self.data / "warehouse.duckdb"

    @property
    def state(self) -> Path:
        """SQLMesh's state."""
        return self.data / "state.duckdb"

    @property
    def dlt_dir(self) -> Path:
        """dlt's working directories, one per source."""
        return self.data / "dlt"

    @property
    def runs(self) -> Path:
        """Run records and logs."""
        return self.data / "runs"

    @property
    def sqlmesh_dir(self) -> Path:
        """The SQLMesh project."""
        return self.project / "sqlmesh"

    @property
    def textfile(self) -> Path | None:
        """The file of metrics, absolute."""
        return self.data / self.metrics.textfile if self.metrics.textfile else None

    @property
    def is_told(self) -> bool:
        """True when somebody is told how a run ended: metrics, spans or a notification."""
        places = (
            self.textfile,
            self.metrics.pushgateway,
            self.traces.endpoint,
            self.notify.webhook,
        )
        return any(places)

    @property
    def active_sources(self) -> dict[str, Source]:
        """The sources that are not switched off."""
        return {name: source for name, source in self.sources.items() if source.enabled}

    def target_path(self, target: Target) -> Path | None:
        """Where a target of kind duckdb or parquet stands, absolute; None for a server."""
        return self.data / target.path if target.path is not None else None

    def snapshot_date(self, now: datetime | None = None) -> date:
        """The day that this run's snapshot describes: `demo_date`, else today in UTC."""
        if self.demo and self.demo_date is not None:
            return self.demo_date
        return (now or datetime.now(UTC)).date()


def dataset_name(source: str) -> str:
    """The raw schema of a source in the warehouse."""
    return f"{source}_raw"
