"""What codecs cost, measured by the program over its real path."""

import json
import os
import re
import unittest

import harness

# Bounds of the KLD median on GPL-3: what each codec promises; `paper` is as bad as published.
KLD_MEDIAN = {"f16": (0, 1e-5), "k8v3": (0, 1.6e-3), "k5v4": (0, 6e-4), "k4v4": (0, 1.4e-3),
              "k4v3": (0, 2.7e-3), "paper": (2.6e-3, 4e-3)}
BITS = {"f16": 16.1, "k8v3": 5.7, "k5v4": 4.7, "k4v4": 4.2, "k4v3": 3.7, "paper": 8.4}
FIELDS = ("codec", "bits_per_element", "delta_ppl_percent", "delta_ppl_se", "kld_median",
          "kld_mean", "kld_p99", "top1_percent")
LAYERS = 30


class Eval(harness.Case):

    def evaluate(self, codecs, *arguments):
        rows = self.dir / "rows.json"
        out, _ = self.polykv("eval", "--model", harness.MODEL, "--text",
                             harness.LICENSES / "GPL-3", "--codecs", codecs, "--json", rows,
                             "--runtime", self.runtime, *arguments)
        return out, {row["codec"]: row for row in json.loads(rows.read_text())}

    def test_the_table_of_gpl_3(self):
        out, rows = self.evaluate(",".join(KLD_MEDIAN))
        print(out)
        perplexity = float(out.split()[2])
        self.assertAlmostEqual(perplexity, 15.21, delta=0.1)
        for codec, (low, high) in KLD_MEDIAN.items():
            row = rows[codec]
            self.assertTrue(all(field in row for field in FIELDS), row)
            self.assertLessEqual(row["kld_median"], high, codec)
            self.assertGreaterEqual(row["kld_median"], low, codec)
            self.assertLessEqual(row["bits_per_element"], BITS[codec], codec)

    def test_layer_by_layer(self):
        out, rows = self.evaluate("k4v4,k8v3", "--windows", "1", "--per-layer")
        self.assertEqual(len(re.findall(r"^ +\d+ +2048 ", out, re.M)), LAYERS, out)
        four, eight = (rows[codec]["layers"] for codec in ("k4v4", "k8v3"))
        self.assertEqual([layer["layer"] for layer in four], list(range(LAYERS)))
        for with_four, with_eight in zip(four, eight):
            for field in ("k_rms", "k_largest", "k_mean_share", "k_peak", "v_rms", "v_peak"):
                self.assertEqual(with_four[field], with_eight[field], "they are the model's")
            # Relative errors are those of the codes: 4 bits 0.097, 8 bits 0.006, 3 bits 0.19.
            self.assertAlmostEqual(with_four["k_error"], 0.095, delta=0.005)
            self.assertAlmostEqual(with_eight["k_error"], 0.006, delta=0.001)
            self.assertAlmostEqual(with_eight["v_error"], 0.19, delta=0.02)
            self.assertLess(with_eight["score_error"], with_four["score_error"] / 8)
            self.assertGreaterEqual(with_four["worst_score_error"], with_four["score_error"])
        for row in rows.values():
            self.assertEqual(row["widened_planes"], 0)

    def test_zeroed_v_codes_raise_the_divergence_tenfold(self):
        _, sound = self.evaluate("k4v4", "--windows", "1")
        os.environ["POLYKV_TAMPER"] = "k4v4"
        self.addCleanup(os.environ.pop, "POLYKV_TAMPER")
        _, damaged = self.evaluate("k4v4", "--windows", "1", "--writer",
                                   harness.PROGRAMS / "tamper-writer")
        self.assertGreaterEqual(damaged["k4v4"]["kld_median"], 10 * sound["k4v4"]["kld_median"])

    def test_rounding_to_integers_costs_less_than_a_tenth_of_the_codec(self):
        codecs = ("k4v4", "k5v5", "k6v6", "k8v3", "k8v6", "k8v8")
        out, rows = self.evaluate(",".join(codecs), "--arithmetic")
        print(out)
        self.assertLessEqual(rows["f32"]["arithmetic_kld_median"], 1e-6)
        self.assertGreater(rows["f32"]["arithmetic_kld_median"], 0, "both sides were the same")
        for codec in codecs:
            self.assertLess(rows[codec]["arithmetic_kld_median"],
                            rows[codec]["codec_kld_median"] / 10, codec)


if __name__ == "__main__":
    unittest.main()
