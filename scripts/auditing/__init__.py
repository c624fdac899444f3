"""What the scripts of an audit share: `seal.py`, `verify.py`, `export.py`, `import.py`, `audit_report.py`."""
