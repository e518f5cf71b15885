"""docs/protocol.schema.json, by an independent validator: takes every golden message, refuses each
broken one. That the server says the same is tests/e2e/protocol.py."""

import collections
import json
import os
import pathlib
import unittest

import golden
import jsonschema
import mutations

SOURCE = pathlib.Path(os.environ.get("POLYKV_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
SCHEMA = json.loads((SOURCE / "docs/protocol.schema.json").read_text())
DEFINITIONS = SCHEMA["$defs"]


def validator_of(name):
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": DEFINITIONS})


class Schema(unittest.TestCase):

    def test_is_a_json_schema(self):
        jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def test_has_a_golden_message_of_every_type_with_every_field(self):
        types = {one["$ref"].rsplit("/", 1)[1] for one in SCHEMA["oneOf"]}
        self.assertEqual(types, set(golden.messages()))
        for name, message in golden.messages().items():
            schema = DEFINITIONS[name]
            excluded = {one["required"][0] for rule in schema.get("allOf", [])
                        for one in rule["oneOf"] if "required" in one}
            self.assertEqual(set(schema["properties"]) - excluded, set(message) - excluded, name)

    def test_takes_every_golden_message_as_exactly_one_type(self):
        whole = jsonschema.Draft202012Validator(SCHEMA)
        for name, message in golden.messages().items():
            with self.subTest(name):
                whole.validate(message)

    def test_refuses_every_field_dropped_mistyped_out_of_range_or_added_to(self):
        for name, message in golden.messages().items():
            validator = validator_of(name)
            ways = collections.Counter()
            for how, changed, variant in mutations.broken(DEFINITIONS, message):
                ways[how] += 1
                self.assertFalse(validator.is_valid(variant), f"{name}: {how}: {changed}")
            fields = len(message)
            self.assertGreaterEqual(ways["mistyped"], 4 * fields, name)
            self.assertGreaterEqual(ways["out of range"], fields // 2, name)
            self.assertEqual(ways["added to"] > 0, True, name)
            self.assertGreaterEqual(ways["dropped"], len(DEFINITIONS[name]["required"]), name)


if __name__ == "__main__":
    unittest.main()
