// Two runtimes, one after the other: nothing rounded, and as agents compute.
#include "launch/eval_arithmetic.h"

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "launch/eval_metrics.h"
#include "launch/eval_steps.h"
#include "launch/inputs.h"
#include "launch/run_job.h"

namespace polykv {
namespace {

constexpr const char* kExact = "fp32";

struct Run {
  std::vector<uint32_t> forced;
  std::vector<EvalScores> scores;  // of each codec
};

struct Row {
  std::string codec;
  double codec_kld = 0, arithmetic_kld = 0;  // medians
};

Result<Run> score_pools(Client& client, const std::string& text,
                        const std::vector<std::string>& codecs) {
  constexpr size_t kTokens = kArithmeticPrefix + kArithmeticForced;
  auto tokens = eval_tokens(client, text);
  if (!tokens) return pass(tokens);
  if (tokens->size() < kTokens) {
    return fail(ErrorCode::bad_text,
                cat("the text has ", tokens->size(), " tokens, eval --arithmetic needs ", kTokens,
                    ": name a longer one with --text"),
                cat(tokens->size()), cat(kTokens));
  }
  ProgressLine line;
  const auto all = std::span(*tokens);
  auto pools = eval_prefill(
      client, {.name = "arithmetic", .tokens = all.first(kArithmeticPrefix), .codecs = codecs},
      line);
  if (!pools) return pass(pools);
  const auto forced = all.subspan(kArithmeticPrefix, kArithmeticForced);
  Run run{{forced.begin(), forced.end()}, {}};
  for (const std::string& codec : codecs) {
    auto scores = eval_score(client, cat("arithmetic-", codec), forced, line);
    if (!scores) return pass(scores);
    run.scores.push_back(std::move(*scores));
  }
  return run;
}

Result<Run> score_with(const EvalOptions& options, const std::string& isa, const std::string& text,
                       const std::vector<std::string>& codecs, int interrupt_fd) {
  SupervisorOptions supervisor = options.supervisor;
  supervisor.isa = isa;
  auto session = Session::start(supervisor, options.runtime, interrupt_fd);
  if (!session) return pass(session);
  auto run = score_pools((*session)->client(), text, codecs);
  const Status stopped = (*session)->stop(run ? Status() : Status(pass(run)));
  if (!stopped) return pass(stopped);
  return run;
}

double kld_of(const EvalScores& base, const EvalScores& other, std::span<const uint32_t> forced) {
  EvalSamples samples;
  add_samples(base.logits(), other.logits(), forced, base.n_vocab, samples);
  return median(samples.kld);
}

// codecs: the first is the one that loses nothing.
std::vector<Row> compare(const Run& exact, const Run& used,
                         const std::vector<std::string>& codecs) {
  std::vector<Row> rows;
  for (size_t i = 0; i < codecs.size(); ++i) {
    rows.push_back({codecs[i], kld_of(exact.scores[0], exact.scores[i], exact.forced),
                    kld_of(exact.scores[i], used.scores[i], exact.forced)});
  }
  return rows;
}

void print_rows(const std::vector<Row>& rows, std::ostream& out) {
  out << "KLD, median over " << kArithmeticForced << " tokens behind " << kArithmeticPrefix
      << "\n\ncodec      of the codec   of the arithmetic   arithmetic / codec\n"
      << std::scientific << std::setprecision(1);
  for (const Row& row : rows) {
    out << std::left << std::setw(8) << row.codec << std::right << std::setw(15) << row.codec_kld
        << std::setw(20) << row.arithmetic_kld;
    if (row.codec != kEvalBaseline) out << std::setw(21) << row.arithmetic_kld / row.codec_kld;
    out << '\n';
  }
}

std::string json_of(const std::vector<Row>& rows) {
  std::ostringstream out;
  out << std::scientific << std::setprecision(6) << '[';
  for (const Row& row : rows) {
    out << (&row == rows.data() ? "" : ",\n ") << "{\"codec\": \"" << row.codec
        << "\", \"codec_kld_median\": " << row.codec_kld
        << ", \"arithmetic_kld_median\": " << row.arithmetic_kld << '}';
  }
  out << "]\n";
  return out.str();
}

}  // namespace

Status run_arithmetic(const EvalOptions& options, const std::string& text, int interrupt_fd) {
  std::vector<std::string> codecs{kEvalBaseline};
  for (const std::string& codec : options.codecs) {
    if (std::ranges::count(codecs, codec) == 0) codecs.push_back(codec);
  }
  auto exact = score_with(options, kExact, text, codecs, interrupt_fd);
  if (!exact) return pass(exact);
  auto used = score_with(options, options.supervisor.isa, text, codecs, interrupt_fd);
  if (!used) return pass(used);
  const std::vector<Row> rows = compare(*exact, *used, codecs);
  print_rows(rows, std::cout);
  return options.json.empty() ? Status() : write_file(options.json, json_of(rows));
}

}  // namespace polykv
