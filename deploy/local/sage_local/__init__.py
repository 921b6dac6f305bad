"""SAGE on one machine: real PostgreSQL, S3, services and gateway, without Docker or an account."""
