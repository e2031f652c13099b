#!/usr/bin/env python3
"""Check openapi.yaml: its structure, its references, its own examples.

Debian 12 has no OpenAPI 3.1 validator, so the rules that matter here are
spelled out: every $ref resolves, every schema is a valid 2020-12 schema, every
property says what it is and shows an example that its schema accepts, every
operation has an id, a summary and described responses.
"""
import re
import sys

import jsonschema
import yaml

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
TYPED = {"type", "const", "enum", "oneOf", "anyOf", "allOf", "$ref"}


class Linter:
    def __init__(self, spec):
        self.spec = spec
        self.errors = []
        self.schemas = 0
        self.examples = 0

    def fail(self, where, what):
        self.errors.append(f"{where}: {what}")

    def resolve(self, ref):
        node = self.spec
        for part in ref.removeprefix("#/").split("/"):
            node = node[part.replace("~1", "/").replace("~0", "~")]
        return node

    def refs(self, node, where):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                try:
                    self.resolve(node["$ref"])
                except (KeyError, TypeError):
                    self.fail(where, f"{node['$ref']} does not resolve")
            for key, value in node.items():
                self.refs(value, f"{where}/{key}")
        elif isinstance(node, list):
            for i, value in enumerate(node):
                self.refs(value, f"{where}/{i}")

    def accepts(self, schema, value, where):
        self.examples += 1
        resolver = jsonschema.RefResolver("", self.spec)
        validator = jsonschema.Draft202012Validator(schema, resolver=resolver)
        for error in validator.iter_errors(value):
            self.fail(where, f"example {value!r}: {error.message}")

    def schema(self, schema, where, is_property=False):
        self.schemas += 1
        if is_property and "$ref" not in schema:
            if "description" not in schema:
                self.fail(where, "no description")
            if not {"examples", "const", "enum"} & set(schema):
                self.fail(where, "no example")
        if not TYPED & set(schema) and "propertyNames" not in schema:
            self.fail(where, "no type")
        for value in schema.get("examples", []):
            self.accepts(schema, value, where)
        if "default" in schema:
            self.accepts(schema, schema["default"], where)
        for name in schema.get("required", []):
            if name not in schema.get("properties", {}):
                self.fail(where, f"required '{name}' is not a property")
        for name, child in schema.get("properties", {}).items():
            self.schema(child, f"{where}.{name}", True)
        for key in ("oneOf", "anyOf", "allOf"):
            for i, child in enumerate(schema.get(key, [])):
                self.schema(child, f"{where}/{key}/{i}")
        if "items" in schema:
            self.schema(schema["items"], f"{where}[]")

    def content(self, node, where):
        for mime, media in node.get("content", {}).items():
            at = f"{where} {mime}"
            if "schema" not in media:
                self.fail(at, "no schema")
                continue
            self.schema(media["schema"], at)
            for name, example in media.get("examples", {}).items():
                self.accepts(media["schema"], example["value"], f"{at} {name}")

    def operation(self, op, where, path_params, path):
        for key in ("operationId", "summary", "tags", "responses"):
            if not op.get(key):
                self.fail(where, f"no {key}")
        known = {tag["name"] for tag in self.spec["tags"]}
        for tag in set(op.get("tags", [])) - known:
            self.fail(where, f"unknown tag {tag}")
        declared = {p["name"] for p in path_params + op.get("parameters", [])
                    if p["in"] == "path"}
        if declared != set(re.findall(r"{(\w+)}", path)):
            self.fail(where, "path parameters differ from the path")
        self.content(op.get("requestBody", {}), f"{where} body")
        for status, reply in op.get("responses", {}).items():
            at = f"{where} {status}"
            if not re.fullmatch(r"[1-5]\d\d", status):
                self.fail(at, "not a status")
            if "$ref" in reply:
                reply = self.resolve(reply["$ref"])
            if not reply.get("description"):
                self.fail(at, "no description")
            self.content(reply, at)

    def run(self):
        spec = self.spec
        if not re.fullmatch(r"3\.1\.\d+", spec.get("openapi", "")):
            self.fail("openapi", "not 3.1")
        for key in ("title", "version"):
            if not spec["info"].get(key):
                self.fail("info", f"no {key}")
        self.refs(spec, "#")
        if self.errors:
            return
        ids = []
        for path, item in spec["paths"].items():
            params = item.get("parameters", [])
            for method in METHODS & set(item):
                op = item[method]
                ids.append(op.get("operationId"))
                self.operation(op, f"{method.upper()} {path}", params, path)
        for name in {i for i in ids if ids.count(i) > 1}:
            self.fail(name, "operationId used twice")
        for name, schema in spec["components"]["schemas"].items():
            try:
                jsonschema.Draft202012Validator.check_schema(schema)
            except jsonschema.SchemaError as error:
                self.fail(name, error.message)
            self.schema(schema, name)
        used = set(re.findall(r"'\$ref': '#/components/(\w+/\w+)'", str(spec)))
        for kind in ("schemas", "responses", "headers"):
            for name in spec["components"][kind]:
                if f"{kind}/{name}" not in used and not name.endswith("Chunk"):
                    self.fail(f"components/{kind}/{name}", "not used")


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "openapi.yaml"
    with open(path, encoding="utf-8") as file:
        linter = Linter(yaml.safe_load(file))
    linter.run()
    for error in linter.errors:
        print(f"{path}: {error}")
    print(f"{path}: {linter.schemas} schemas, {linter.examples} examples, "
          f"{len(linter.errors)} errors")
    return 1 if linter.errors else 0


if __name__ == "__main__":
    sys.exit(main())
