"""SQL models, external models and audits from the schemas that dlt recorded."""
