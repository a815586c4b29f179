"""The page at `/docs`: the addresses and problems in words, with nothing loaded from elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from gsco.case import NOTICE
from gsco.service.problems import KINDS

STYLE = """body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code{background:#eee;padding:.1em .3em}table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #ccc;padding:.3rem;text-align:left;vertical-align:top}"""
EXAMPLE = "curl --form images=@scan.png --form task=pneumonia-cxr \\\n  {base}v1/diagnose"


# Any: an OpenAPI document is JSON of many shapes.
def docs(schema: Mapping[str, Any], base: str) -> str:
    """Return HTML that describes every address, field, response and kind of problem.

    `base` is where the service is asked, with a slash at its end.
    """
    addresses = "".join(
        section
        for path, methods in schema["paths"].items()
        for method, said in methods.items()
        for section in _address(path, method, said, schema["components"]["schemas"])
    )
    kinds = _table(
        ("type", "status", "meaning"),
        [
            (f'<code id="{kind.name}">/docs#{kind.name}</code>', str(kind.status), kind.title)
            for kind in KINDS.values()
        ],
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>GSCo</title>'
        f"<style>{STYLE}</style></head><body><h1>GSCo {escape(schema['info']['version'])}</h1>"
        f"<p><strong>{escape(NOTICE)}</strong></p><pre><code>{escape(EXAMPLE.format(base=base))}</code></pre>"
        '<p>For programs: <a href="/openapi.json">/openapi.json</a> (OpenAPI).</p>'
        f"{addresses}<h2>Problems</h2><p>Every refusal is a problem document (RFC 9457) with "
        f"type, title, status, detail and instance.</p>{kinds}</body></html>"
    )


def _address(
    path: str, method: str, said: Mapping[str, Any], schemas: Mapping[str, Any]
) -> Iterator[str]:
    yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
    yield f"<p>{escape(said.get('description', ''))}</p>"
    for media, body in said.get("requestBody", {}).get("content", {}).items():
        form = schemas[body["schema"]["$ref"].rsplit("/", 1)[-1]]
        yield f"<p>A form, <code>{escape(media)}</code>:</p>"
        yield _table(("field", "", "meaning"), [_field(n, form) for n in form["properties"]])
    rows = [
        (f"<code>{escape(status)}</code>", escape(response["description"]), _answer(response))
        for status, response in said["responses"].items()
    ]
    yield _table(("status", "meaning", "body"), rows)


def _field(name: str, form: Mapping[str, Any]) -> tuple[str, str, str]:
    field = form["properties"][name]
    needed = "needed" if name in form["required"] else f"default {field.get('default')!s}"
    choices = f" One of: {', '.join(field['enum'])}." if "enum" in field else ""
    says = f"{field.get('description', '')}{choices}"
    return f"<code>{escape(name)}</code>", escape(needed), escape(says)


def _answer(response: Mapping[str, Any]) -> str:
    content = response.get("content", {})
    named = [
        f"{media} {body.get('schema', {}).get('$ref', '').rsplit('/', 1)[-1]}"
        for media, body in content.items()
    ]
    return escape(", ".join(named))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table; its cells are HTML already."""
    cells = "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{h}</th>' for h in head)}</tr>{cells}</table>"
