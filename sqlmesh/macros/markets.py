"""Macros that the models of the markets share."""

from sqlmesh import SQL, macro
from sqlmesh.core.macros import MacroEvaluator


@macro()
def delete_gone_days(
    evaluator: MacroEvaluator, source: SQL, day: SQL, criteria: SQL | None = None
) -> str | None:
    """After an evaluation: DELETE the days of each ticker that the model's source has no more.

    They are compared one by one only for tickers whose checksums differ (docs/adr/0012).

    Args:
        source: the model whose days stand in this one.
        day: the source's column of the day.
        criteria: which rows of the source stand in this model; default: all.
    """
    if evaluator.locals["runtime_stage"] != "evaluating":
        return None
    this_model = evaluator.this_model
    present = f"SELECT ticker, {day} AS trade_date FROM {source} WHERE {criteria or 'TRUE'}"
    return f"""
        DELETE FROM {this_model} WHERE (ticker, trade_date) IN (
          WITH differing AS (
            SELECT ticker
            FROM (SELECT ticker, trade_date FROM {this_model} UNION ALL {present})
            GROUP BY ticker
            HAVING BIT_XOR(HASH(trade_date)) <> 0
          )
          SELECT ticker, trade_date FROM {this_model}
          WHERE ticker IN (SELECT ticker FROM differing)
          EXCEPT
          SELECT ticker, trade_date FROM ({present})
          WHERE ticker IN (SELECT ticker FROM differing)
        )
    """
