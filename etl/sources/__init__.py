"""APIs as dlt sources: declarative ones, Python factories, and the guards around both."""
