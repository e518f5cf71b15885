// eval v1, step by step.
#include "launch/eval.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <iostream>

#include "ipc/codec.h"
#include "launch/eval_arithmetic.h"
#include "launch/eval_layers.h"
#include "launch/eval_metrics.h"
#include "launch/eval_steps.h"
#include "launch/inputs.h"
#include "launch/run_job.h"

namespace polykv {
namespace {

// One codec while the windows are walked.
struct CodecRun {
  std::string codec;
  double bits = 0;
  EvalSamples samples;
  uint64_t widened = 0;
  std::vector<Message> layers;  // of the first window
};

CodecRun run_of(const std::string& codec) {
  CodecRun run;
  run.codec = codec;
  return run;
}

bool is_coarse_run(const CodecRun& run) {
  const auto codec = parse_codec(run.codec);
  return codec && is_coarse(*codec);
}

void take_pool(EvalPool& pool, bool per_layer, CodecRun& run) {
  run.bits = pool.bits_per_element;
  run.widened += pool.widened_planes;
  if (per_layer) run.layers = std::move(pool.layers);
}

// Encodes the window's prefix by each codec. Coarse ones apart from the others: together, all would
// be prefilled as the finest needs it.
Status make_pools(Client& client, EvalPrefill prefill, std::vector<CodecRun>& runs,
                  ProgressLine& line) {
  for (const bool coarse : {false, true}) {
    prefill.codecs.clear();
    for (const CodecRun& run : runs) {
      if (is_coarse_run(run) == coarse) prefill.codecs.push_back(run.codec);
    }
    if (prefill.codecs.empty()) continue;
    auto pools = eval_prefill(client, prefill, line);
    if (!pools) return pass(pools);
    auto pool = pools->begin();
    for (CodecRun& run : runs) {
      if (is_coarse_run(run) == coarse) take_pool(*pool++, prefill.per_layer, run);
    }
  }
  return {};
}

Status run_window(Client& client, uint32_t window, std::span<const uint32_t> tokens,
                  std::vector<CodecRun>& runs, bool per_layer) {
  ProgressLine line;
  const std::string name = cat("window", window);
  const auto forced = tokens.subspan(kEvalPrefix, kEvalForced);
  const EvalPrefill prefill{name, tokens.first(kEvalPrefix), {}, per_layer && window == 0};
  if (auto made = make_pools(client, prefill, runs, line); !made) return made;
  auto base = eval_score(client, cat(name, "-", kEvalBaseline), forced, line);
  if (!base) return pass(base);
  for (CodecRun& run : runs) {
    if (run.codec == kEvalBaseline) {
      add_samples(base->logits(), base->logits(), forced, base->n_vocab, run.samples);
      continue;
    }
    auto scores = eval_score(client, cat(name, "-", run.codec), forced, line);
    if (!scores) return pass(scores);
    add_samples(base->logits(), scores->logits(), forced, base->n_vocab, run.samples);
  }
  return {};
}

EvalRow row_of(const CodecRun& run) {
  const EvalSamples& samples = run.samples;
  std::vector<double> differences;
  for (size_t i = 0; i < samples.nll_base.size(); ++i) {
    differences.push_back(samples.nll_codec[i] - samples.nll_base[i]);
  }
  EvalRow row;
  row.codec = run.codec;
  row.bits_per_element = run.bits;
  row.delta_ppl_percent = (std::exp(mean(differences)) - 1) * 100;
  row.delta_ppl_se = standard_error(differences) * 100;
  row.kld_median = median(samples.kld);
  row.kld_mean = mean(samples.kld);
  row.kld_p99 = quantile(samples.kld, 0.99);
  row.top1_percent =
      100 * static_cast<double>(samples.top1_same) / static_cast<double>(samples.kld.size());
  row.widened_planes = run.widened;
  row.layers = run.layers;
  return row;
}

void print_table(const std::vector<EvalRow>& rows, double perplexity, std::ostream& out) {
  out << "baseline perplexity " << std::fixed << std::setprecision(2) << perplexity << "\n\n"
      << "codec   bits/element    delta PPL        KLD median  KLD mean   KLD p99    top-1 same\n";
  for (const EvalRow& row : rows) {
    out << std::left << std::setw(8) << row.codec << std::right << std::fixed << std::setw(12)
        << std::setprecision(3) << row.bits_per_element << std::showpos << std::setw(9)
        << std::setprecision(2) << row.delta_ppl_percent << std::noshowpos << " ± "
        << row.delta_ppl_se << " %  " << std::scientific << std::setprecision(1) << std::setw(12)
        << row.kld_median << std::setw(10) << row.kld_mean << std::setw(10) << row.kld_p99
        << std::fixed << std::setw(12) << row.top1_percent << " %";
    if (row.widened_planes > 0) out << "  " << row.widened_planes << " planes of K widened";
    out << '\n';
  }
}

std::string json_of(const std::vector<EvalRow>& rows) {
  std::string json = "[";
  for (const EvalRow& row : rows) {
    Message message("eval_row");
    message.set("codec", row.codec).set("bits_per_element", row.bits_per_element);
    message.set("delta_ppl_percent", row.delta_ppl_percent).set("delta_ppl_se", row.delta_ppl_se);
    message.set("kld_median", row.kld_median).set("kld_mean", row.kld_mean);
    message.set("kld_p99", row.kld_p99).set("top1_percent", row.top1_percent);
    message.set("widened_planes", row.widened_planes);
    if (!row.layers.empty()) message.set("layers", row.layers);
    json += cat(json.size() > 1 ? ",\n " : "", message.dump());
  }
  return json + "]\n";
}

Result<std::vector<CodecRun>> evaluate(Client& client, const EvalOptions& options,
                                       const std::string& text) {
  std::vector<CodecRun> runs{run_of(kEvalBaseline)};
  for (const std::string& codec : options.codecs) {
    const bool known =
        std::ranges::any_of(runs, [&](const CodecRun& run) { return run.codec == codec; });
    if (!known) runs.push_back(run_of(codec));
  }
  auto tokens = eval_tokens(client, text);
  if (!tokens) return pass(tokens);
  constexpr size_t kWindow = kEvalPrefix + kEvalForced;
  if (tokens->size() < options.n_windows * kWindow) {
    return fail(ErrorCode::bad_text,
                cat("the text has ", tokens->size(), " tokens, eval needs ",
                    options.n_windows * kWindow, ": name a longer one with --text"),
                cat(tokens->size()), cat(options.n_windows * kWindow));
  }
  for (uint32_t window = 0; window < options.n_windows; ++window) {
    const auto part = std::span(*tokens).subspan(window * kWindow, kWindow);
    if (auto done = run_window(client, window, part, runs, options.per_layer); !done) {
      return pass(done);
    }
  }
  return runs;
}

}  // namespace

Status run_eval(const EvalOptions& options, int interrupt_fd) {
  for (const std::string& codec : options.codecs) {
    if (auto known = parse_codec(codec); !known) return pass(known);
  }
  auto text = read_context(options.text);
  if (!text) return pass(text);
  if (options.arithmetic) return run_arithmetic(options, *text, interrupt_fd);
  auto session = Session::start(options.supervisor, options.runtime, interrupt_fd);
  if (!session) return pass(session);
  auto runs = evaluate((*session)->client(), options, *text);
  const Status stopped = (*session)->stop(runs ? Status() : Status(pass(runs)));
  if (!stopped) return stopped;
  std::vector<EvalRow> rows;
  for (const CodecRun& run : *runs) {
    const bool asked = std::ranges::count(options.codecs, run.codec) > 0;
    if (asked) rows.push_back(row_of(run));
  }
  print_table(rows, std::exp(mean(runs->front().samples.nll_base)), std::cout);
  if (options.per_layer) print_layers(rows, std::cout);
  return options.json.empty() ? Status() : write_file(options.json, json_of(rows));
}

}  // namespace polykv
