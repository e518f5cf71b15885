"""Every way to break a message that the JSON Schema rules out: derived from the schema itself."""

import copy

_OF_TYPE = {"string": "text", "integer": 3, "number": 2.5, "boolean": True, "null": None,
            "array": [[]], "object": {"surprise": 1}}


def _resolve(definitions, schema):
    return definitions[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def _kinds(schema):
    """The JSON types that a schema takes."""
    if "const" in schema or "enum" in schema:
        value = schema.get("const", schema.get("enum", [""])[0])
        return {"string"} if isinstance(value, str) else {"integer", "number"}
    return {"integer", "number"} if schema["type"] == "number" else {schema["type"]}


def _out_of_range(schema, value):
    """Values of the right type that are too small, too large, too long or not of the pattern."""
    if "enum" in schema or "const" in schema:
        yield "no such choice" if isinstance(value, str) else value + 1
        return
    if "minimum" in schema:
        yield schema["minimum"] - 1
        yield schema["maximum"] + (2 if schema["maximum"] >= 2**53 else 1)
    if schema["type"] == "integer":
        yield schema["minimum"] + 0.5
    if schema.get("minLength", 0) > 0:
        yield ""
    if "maxLength" in schema:
        yield "/" * (schema["maxLength"] + 1)
    if schema.get("pattern", "").startswith("^(0"):
        yield from ("", "-1", "01", "1x", "1" * 20 + "x", str(2**64), " 1")
    if schema.get("pattern", "").startswith("^/"):
        yield from ("relative/path", "/a\0b")
    if "maxItems" in schema:
        yield [value[0]] * (schema["maxItems"] + 1)


def _mistyped(schema):
    kinds = _kinds(schema)
    return [value for kind, value in _OF_TYPE.items() if kind not in kinds
            and not (kind == "number" and "integer" in kinds)]


def _inside(definitions, schema, value):
    """Broken values of one field: wrong type, out of range, or broken further inside."""
    target = _resolve(definitions, schema)
    for wrong in _mistyped(target):
        yield "mistyped", wrong
    if "properties" in target:
        yield from _of_object(definitions, target, value)
        return
    for wrong in _out_of_range(target, value):
        yield "out of range", wrong
    if target.get("type") == "array":
        for what, wrong in _inside(definitions, target["items"], value[0]):
            yield what, [wrong, *value[1:]]


def _of_object(definitions, schema, value):
    for field in schema["required"]:
        yield "dropped", {name: one for name, one in value.items() if name != field}
    yield "added to", {**value, "surprise": 1}
    for rule in schema.get("allOf", []):
        yield from _against(rule, value)
    for field, of_field in schema["properties"].items():
        if field in value:
            for what, wrong in _inside(definitions, of_field, value[field]):
                yield what, {**value, field: wrong}


def _against(rule, value):
    """Two of the fields that exclude each other; none, where there has to be one."""
    names = [one["required"][0] for one in rule["oneOf"] if "required" in one]
    given = [name for name in names if name in value]
    samples = {"version": 1, "at_least": 1, "prompt": "Why?", "messages": [], "text": "A text.",
               "path": "/nowhere/text"}
    if given:
        yield "excluded", {**value, **{name: samples[name] for name in names}}
    if len(rule["oneOf"]) == len(names):
        yield "dropped", {name: one for name, one in value.items() if name not in names}


def broken(definitions, message):
    """(how, field, message) of every broken variant of a golden message."""
    schema = definitions[message["type"]]
    for how, variant in _of_object(definitions, schema, copy.deepcopy(message)):
        changed = [name for name in {**message, **variant}
                   if message.get(name, variant) != variant.get(name, variant)
                   or (name in message) != (name in variant)
                   or type(message[name]) is not type(variant[name])]
        yield how, changed, variant
