"""The same GSCo for other programs: over HTTP (`gsco api`), and as tools for an agent (`gsco mcp`).

Both call `GSCo.diagnose` or `GSCo.diagnose_many` and decide nothing themselves.
"""
