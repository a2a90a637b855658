"""The table of values in the chart's README, made of values.schema.json and values.yaml."""

import json
import re

import yaml

from chart import CHART

README = CHART / "README.md"
BEGIN, END = "<!-- values, by `make helm-snapshots` -->\n", "<!-- end of values -->\n"


def entries():
    """Each value that has no values within: its path, its schema, and its default (None if values.yaml has none)."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return list(walk("", schema, values))


def walk(path, schema, values):
    for name, inner in schema["properties"].items():
        place = f"{path}.{name}" if path else name
        value = values.get(name) if isinstance(values, dict) else None
        yield from node(place, inner, value)


def node(place, schema, value):
    items = schema.get("items", {})
    if "properties" in schema:
        yield from walk(place, schema, value)
    elif "properties" in items:
        yield place, schema, value
        yield from walk(f"{place}[]", items, None)
    else:
        yield place, schema, value


def kind(schema):
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"] if value)
    if schema["type"] == "integer":
        return f"{schema['minimum']:,} to {schema['maximum']:,}"
    return {"array": "list", "object": "map", "boolean": "true, false"}.get(schema["type"], schema["type"])


def table():
    lines = ["| value | | default | meaning |", "|---|---|---|---|"]
    for place, schema, value in entries():
        default = "" if value in (None, "", [], {}) else f"`{json.dumps(value, ensure_ascii=False)}`"
        lines.append(f"| `{place}` | {kind(schema)} | {default} | {schema.get('description', '')} |".replace("  ", " "))
    return "\n".join(lines) + "\n"


def with_table(text):
    """The README's text, with the table as it has to be."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return before + BEGIN + table() + END + after


def names_in_values():
    """Every key in values.yaml, those that are commented out or within braces included."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    return set(re.findall(r"([A-Za-z_]+):", text))
