"""Names what fails while dlt brings marts to a target: by the types in a chain of causes."""

from __future__ import annotations

from dlt.common.destination.exceptions import (
    DestinationTransientException,
    UnknownDestinationModule,
)
from dlt.common.exceptions import SystemConfigurationException
from dlt.destinations.exceptions import DestinationConnectionError
from dlt.load.exceptions import LoadClientJobException

from etl.causes import causes, classify_os_error, first_line, is_lost, is_refusal
from etl.errors import AuthError, ConfigError, EtlError, LoadError, UnreachableError
from etl.raw.failures import config_error
from etl.targets.mssql.driver import INSTALL

# SQLSTATEs of an ODBC driver manager that finds no driver of a name, or cannot open its library:
# unixODBC has none for that but a warning's.
_NO_DRIVER = {"IM002", "IM003", "01000"}


def classify_delivery(error: BaseException, target: str) -> EtlError:
    """The class of a failure while dlt brings marts to a target, by types as well."""
    chain = causes(error)
    # A load job's own error hangs on it beside the chain.
    jobs = [c for c in chain if isinstance(c, LoadClientJobException)]
    chain += [c for job in jobs for c in causes(job.client_exception)]
    for cause in chain:
        if isinstance(cause, EtlError):
            return cause
    # A job is named after its table.
    where = "".join(f"{j.job_id.partition('.')[0]} at " for j in jobs[:1]) + f"target {target}"
    for cause in chain:
        if isinstance(cause, UnknownDestinationModule):
            return ConfigError(
                f"{where}: dlt has no destination of this name",
                subject=target,
                hint="write it as dlt's documentation does, such as filesystem or bigquery",
            )
    if (lacking := next(filter(_lacks_driver, chain), None)) is not None:
        return ConfigError(
            f"{where}: an ODBC driver is missing: {first_line(lacking)}",
            subject=target,
            hint="register the driver that `credentials` name with the driver manager; for SQL "
            f"Server `kind: mssql` needs none but its own: {INSTALL}",
        )
    failures = (chain[0], *(job.client_exception for job in jobs))
    machine = next(filter(None, map(classify_os_error, failures)), None)
    if (found := config_error(chain, target) or machine) is not None:
        return found
    # A machine's own has a number, a store's has none.
    if (denied := next((c for c in chain if isinstance(c, PermissionError)), None)) is not None:
        return AuthError(
            f"{where}: the credentials were rejected: {first_line(denied)}",
            subject=target,
            hint="check the target's `credentials` and what they may do there",
        )
    # dlt takes most of what a database or its driver refuses for a failure that passes, and tries
    # it again a few times.
    refusal = next((c for c in chain if _refuses(c)), None)
    unconnected = next((c for c in chain if isinstance(c, DestinationConnectionError)), None)
    lost = unconnected.inner_exc if unconnected else next((c for c in chain if is_lost(c)), None)
    passes = lost or any(isinstance(c, DestinationTransientException) for c in chain)
    if unconnected or (passes and refusal is None):
        told = f" cannot be reached: {first_line(lost)}" if lost else f": {first_line(chain[-1])}"
        return UnreachableError(
            f"{where}{told}",
            subject=target,
            hint="run again; is it up, and are the target's `options` right? dlt does not tell the "
            "two apart",
        )
    said = refusal or chain[-1]
    return LoadError(
        f"{where}: {type(said).__name__}: {first_line(said)}",
        subject=target,
        hint="correct the model, or the table at the target, or drop the table there: the next run "
        "sends the whole mart",
    )


def _lacks_driver(error: BaseException) -> bool:
    """True for what dlt, which has it for nothing else, or pyodbc says of a driver's absence."""
    state = next(iter(error.args), None)
    of_manager = type(error).__module__ == "pyodbc" and state in _NO_DRIVER
    return of_manager or isinstance(error, SystemConfigurationException)


def _refuses(error: BaseException) -> bool:
    """True for what says that a value or a statement is not taken."""
    return isinstance(error, ArithmeticError | TypeError | ValueError) or is_refusal(error)
