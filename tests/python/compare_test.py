"""The comparison's arithmetic and readers, on numbers whose answers are known: no model, no
peer."""

import array
import json
import math
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(os.environ.get("POLYKV_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
COMPARE = ROOT / "tests/bench/compare"
sys.path[:0] = [str(ROOT / "tests/bench")]

from comparing import arithmetic, kernels, logits, peer, report, rows  # noqa: E402
from comparing.arithmetic import Stream  # noqa: E402


class Window(unittest.TestCase):
    """Tokens count while all streams generate, on one clock."""

    def test_only_what_arrives_while_all_generate_counts(self):
        late = Stream((4.0, 5.0, 6.0, 7.0), 4, (3,) * 4)
        early = Stream((0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0), 7, (2,) * 7)
        self.assertEqual(arithmetic.window([early, late]), (4.0, 6.0))
        self.assertEqual(arithmetic.aggregate_rate([early, late]), 4 / 2)

    def test_an_event_counts_as_many_tokens_as_it_has_of_the_text(self):
        stream = Stream.of([(0.0, 2), (1.0, 4), (2.0, 6)], 6)
        self.assertEqual(arithmetic.aggregate_rate([stream]), (2 + 3) / 2)
        self.assertEqual(arithmetic.rate(stream), (2 + 3) / 2)

    def test_streams_one_after_the_other_have_no_rate(self):
        with self.assertRaisesRegex(arithmetic.NoWindow, "the last of 2 streams began 1.000 s"):
            arithmetic.aggregate_rate([Stream((0.0, 1.0), 2, (1, 1)),
                                       Stream((2.0, 3.0), 2, (1, 1))])

    def test_a_silent_stream_has_no_rate(self):
        with self.assertRaises(arithmetic.NoWindow):
            arithmetic.aggregate_rate([Stream((0.0, 1.0), 2, (1, 1)), Stream((), 0, ())])


class Growth(unittest.TestCase):
    """Slope and distance from a straight line."""

    def test_a_line_is_found_exactly(self):
        line = arithmetic.line_through([(1, 5), (2, 7), (4, 11)])
        self.assertAlmostEqual(line.slope, 2)
        self.assertAlmostEqual(line.at_zero, 3)
        self.assertAlmostEqual(line.residual, 0)

    def test_a_bend_is_the_residual_of_the_mean(self):
        line = arithmetic.line_through([(0, 0), (1, 3), (2, 0)])
        self.assertAlmostEqual(line.slope, 0)
        self.assertAlmostEqual(line.residual, 2 / 1)

    def test_one_context_has_no_slope(self):
        with self.assertRaisesRegex(ValueError, "two different contexts"):
            arithmetic.line_through([(1, 5), (1, 6)])

    def test_the_row_is_milliseconds_for_a_thousand_tokens(self):
        figures = {f"decode@{depth}": 1000 / (2 + 0.5 * depth / 1000) for depth in rows.DEPTHS}
        self.assertAlmostEqual(rows.BY_NAME["slope"].ours.of(figures), 0.5)
        self.assertAlmostEqual(rows.BY_NAME["linear"].ours.of(figures), 0)


class Divergence(unittest.TestCase):
    """KLD of logits."""

    def test_of_known_rows(self):
        even = arithmetic.log_probabilities([0.0, 0.0])
        skewed = arithmetic.log_probabilities([math.log(3), 0.0])
        self.assertAlmostEqual(arithmetic.divergence(even, even), 0)
        expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
        self.assertAlmostEqual(arithmetic.divergence(even, skewed), expected)

    def test_what_lies_deep_is_cut(self):
        row = arithmetic.log_probabilities([0.0, -100.0])
        self.assertAlmostEqual(row[0] - row[1], 16)
        self.assertAlmostEqual(sum(map(math.exp, row)), 1)
        for again, once in zip(arithmetic.log_probabilities(row), row):
            self.assertAlmostEqual(again, once)

    def test_a_file_of_llama_cpp_is_read_and_compared(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "logits"
            head = struct.pack("<3i4i", 4, 3, 1, *range(4))  # context, vocabulary, windows; tokens
            row = struct.pack("<2f4H", 1 / 65535, -1.5, 65535, 0, 32768, 0)
            path.write_bytes(b"_logits_" + head + row)
            file = logits.LogFile(path)
            self.assertEqual(file.tokens, [0, 1, 2, 3])
            mine = logits.Ours(array.array("f", [7.0, 6.0, 6.5]).tobytes(), 3)
            for found, expected in zip(file.row(0), mine.row(0)):
                self.assertAlmostEqual(found, expected, 4)
            self.assertAlmostEqual(sum(map(math.exp, file.row(0))), 1)
            with self.assertRaisesRegex(peer.PeerError, "ends before row 1"):
                file.row(1)


class Peer(unittest.TestCase):
    """llama.cpp's output, and whether it was as fast as it should be."""

    def test_bench_is_read_by_prompt_generated_and_depth(self):
        text = 'noise\n{"n_prompt": 64, "n_gen": 0, "n_depth": 4096, "avg_ts": 235.3}\n'
        self.assertEqual(peer.read_bench(text), {(64, 0, 4096): 235.3})

    def test_batched_bench_is_read_by_sequences(self):
        text = '{"pp": 4096, "tg": 32, "pl": 15, "speed_pp": 300.5, "speed_tg": 92.4}\n\nllama\n'
        self.assertEqual(peer.read_batched(text), {15: (300.5, 92.4)})

    def test_quantised_values_only_with_flash_attention(self):
        self.assertTrue(all(one.flash or one.v == "f16" for one in peer.SETTINGS))
        self.assertEqual(str(peer.SETTINGS[0]), "-fa off -ctk f16 -ctv f16")

    def test_the_best_of_each_figure_is_kept(self):
        class Fake:
            def batched(self, name, setting, context, sequences):
                return (600.0, 50.0) if setting.flash else (300.0, 92.0)

            def bench(self, name, setting, *_):
                speed = 60.0 if setting.k == "q8_0" else 30.0
                return {(peer.PROMPT, 0, peer.PROBE): 7.0, (0, 16, peer.PROBE): speed}
        best, tried = peer.best_settings(Fake(), 15, lambda _: None)
        self.assertEqual(len(tried), len(peer.SETTINGS))
        self.assertTrue(best["prefill"].flash)
        self.assertFalse(best["aggregate"].flash)
        self.assertEqual(best["decode"].k, "q8_0")

    def test_a_peer_under_80_per_cent_of_the_reference_is_told(self):
        self.assertEqual(list(peer.too_slow({"decode@4096": 27.2}, 26)), [])
        told = list(peer.too_slow({"decode@4096": 27.0}, 26))
        self.assertRegex(told[0], "27.0 tokens/s at 'decode@4096'.*26 GB/s at least 27.1")
        self.assertEqual(len(list(peer.too_slow({"decode@4096": 27.2}, 52))), 1)

    def test_what_it_was_built_with_is_read(self):
        said = "I system_info: n_threads = 2 | CPU : AVX2 = 1 | AMX_INT8 = 1 | SVE = 0 |\n"
        self.assertEqual(peer.instruction_sets(said), ["AVX2", "AMX_INT8"])


class Kernels(unittest.TestCase):
    """Google Benchmark's JSON."""

    def test_the_best_instruction_set_is_taken(self):
        text = json.dumps({"benchmarks": [
            {"name": "matmul/w4/avx2/rows:1/manual_time", "of_read": 0.5},
            {"name": "matmul/w4/avx512/rows:1/manual_time", "of_read": 0.9}]})
        one, isa = kernels.best(kernels.read_figures(text), kernels.W4)
        self.assertEqual((one["of_read"], isa), (0.9, "avx512"))

    def test_without_amx_it_is_neither_forced_nor_taken(self):
        text = json.dumps({"benchmarks": [
            {"name": "matmul/w4/amx/rows:1/manual_time", "of_read": 0.9},
            {"name": "matmul/w4/avx512/rows:1/manual_time", "of_read": 0.5}]})
        figures = kernels.read_figures(text)
        self.assertEqual(kernels.best(figures, kernels.W4, kernels.isas(False))[1], "amx")
        self.assertEqual(kernels.best(figures, kernels.W4, kernels.isas(True))[1], "avx512")
        for flags, name in (("amx_int8 avx512_vnni avx512vbmi", "avx512vbmi"),
                            ("amx_int8 avx512_vnni", "avx512"), ("avx2", "avx2")):
            self.assertEqual(kernels.best_without_amx("flags : fpu " + flags), name)

    def test_a_missing_program_says_how_to_build_it(self):
        with self.assertRaisesRegex(kernels.BenchError, "libbenchmark-dev.*--target polykv_bench"):
            kernels.program(pathlib.Path("/nonexistent"))


def run_of(*json_rows, **changes):
    """A document of a run with these rows."""
    probe = {"-fa off": {"decode": 1.0, "aggregate": 2.0, "prefill": 3.0, "first_token": 4.0}}
    return {"date": "2000-01-01", "machine": "none", "rounds": 3, "seconds": 60, "model": "m.gguf",
            "read_gb_per_s": 26.0, "isa": "avx2", "notes": [], "rows": list(json_rows),
            "peer": {"version": "v", "instruction_sets": ["AVX2"], "probe": probe,
                     "probed_at": 1024, "too_slow": [],
                     "commands": {"decode": "llama-bench -m m.gguf"}}, **changes}


ABOUT = {"settings": {"decode": "-fa off"}, "texts": {"decode@4096": ["one"]}, "isa": "avx2"}


def decode_row(round_, ours, theirs):
    return report.json_row(rows.BY_NAME["decode"], round_, {"decode@4096": ours},
                           {"decode@4096": theirs}, {"decode@4096": 2 * theirs}, ABOUT)


class Report(unittest.TestCase):
    """Rows, bars and tables."""

    def test_a_row_says_who_how_and_how_many_times(self):
        row = decode_row(1, 100.0, 20.0)
        self.assertEqual((row["ours"], row["peer"], row["ratio"]), (100.0, 20.0, 5.0))
        self.assertEqual((row["peer_q4_0"], row["ratio_q4_0"]), (40.0, 2.5))
        self.assertEqual((row["peer_setting"], row["isa"]), ("-fa off", "avx2"))
        self.assertEqual(row["output_hash"], arithmetic.output_hash(["one"]))

    def test_less_time_is_a_greater_ratio(self):
        row = report.json_row(rows.BY_NAME["first_token"], 1, {"first_token": 50.0},
                              {"first_token": 200.0}, {}, ABOUT)
        self.assertEqual((row["ratio"], row["peer_q4_0"]), (4.0, None))

    def test_a_row_without_our_figure_is_left_out(self):
        self.assertIsNone(report.json_row(rows.BY_NAME["lanes"], 1, {}, {"aggregate": 1.0}, {},
                                          ABOUT))

    def test_the_table_has_minimum_median_maximum_and_the_bar(self):
        run = run_of(*(decode_row(i, ours, 20.0) for i, ours in enumerate((90.0, 100.0, 70.0))))
        table = report.main_table(run)
        self.assertIn("70.0 / **90.0** / 100.0", table)
        self.assertIn("3.50 / **4.50** / 5.00", table)
        self.assertRegex(table, r"≥ 4× \(aim 6×\) \| must")
        self.assertEqual(list(report.missed(run)), [])

    def test_a_missed_bar_is_told(self):
        run = run_of(decode_row(1, 60.0, 20.0))
        self.assertIn("Bars that this run misses: `decode`.", report.markdown(run))
        self.assertEqual(list(report.missed(run)), ["decode"])

    def test_bars_on_our_own_value_go_the_way_of_the_row(self):
        memory, attend = rows.BY_NAME["memory"], rows.BY_NAME["attend"]
        for row, value, expected in ((memory, 4.0, "aim"), (memory, 9.0, "must"),
                                     (memory, 11.0, "missed"), (attend, 95.0, "aim"),
                                     (attend, 75.0, "must"), (attend, 60.0, "missed")):
            self.assertEqual(row.bars[0].verdict(value, row.more_is_better), expected)

    def test_a_document_is_filled_between_its_marks_again_and_again(self):
        run = run_of(decode_row(1, 100.0, 20.0))
        begin, end = report.MARKS[False]
        page = f"before\n{begin}\nold\n{end}\nafter\n"
        once = report.put_into(page, run)
        self.assertNotIn("old", once)
        self.assertTrue(once.startswith("before\n") and once.endswith("after\n"))
        self.assertEqual(report.put_into(once, run), once)
        with self.assertRaisesRegex(ValueError, "no lines"):
            report.put_into("nothing", run)

    def test_a_run_without_amx_has_marks_and_a_sentence_of_its_own(self):
        page = "\n".join(f"{begin}\nold\n{end}" for begin, end in report.MARKS.values())
        filled = report.put_into(page, run_of(decode_row(1, 2.0, 1.0), without_amx=True))
        self.assertTrue(filled.startswith(f"{report.MARKS[False][0]}\nold\n"))
        self.assertEqual(filled.count("old"), 1)
        self.assertIn("without the processor's matrix extensions", filled)

    def test_a_row_says_what_its_sides_have_to_measure(self):
        self.assertEqual(rows.needs([rows.BY_NAME["tax_0"]], "ours"),
                         {"lanes@0", "processes@0"})


class Command(unittest.TestCase):
    """The program itself, without either side."""

    def run_it(self, *arguments):
        return subprocess.run([sys.executable, COMPARE, *arguments], capture_output=True,
                              text=True, check=False)

    def test_help_needs_nothing(self):
        done = self.run_it("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("--rounds", done.stdout)

    def test_bad_use_is_told_in_a_sentence(self):
        for arguments, said in ((("--rows", "speed"), "invalid choice: 'speed'"),
                                (("--rounds", "0"), "--rounds 0: at least 1"),
                                (("--model", "/nowhere.gguf"), "/nowhere.gguf is not there")):
            done = self.run_it(*arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(said, done.stderr)
            self.assertNotIn("Traceback", done.stderr)

    def test_tables_come_from_the_json_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            path, page = pathlib.Path(folder) / "run.json", pathlib.Path(folder) / "page.md"
            report.write(run_of(decode_row(1, 100.0, 20.0)), path)
            page.write_text("\n".join(report.MARKS[False]) + "\n")
            done = self.run_it("--show", str(path), "--into", str(page))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("**5.00**", done.stdout)
            self.assertIn("**5.00**", page.read_text())


if __name__ == "__main__":
    unittest.main()
