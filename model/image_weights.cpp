// Tensors are cut into pieces of whole groups of rows, pieces go to the team in rounds.
#include "model/image_weights.h"

#include <algorithm>

#include "model/mapped_file.h"
#include "model/weight_layout.h"

namespace polykv {
namespace {

struct Piece {
  const WeightToPack* weight;
  RowRange rows;
};

uint64_t file_bytes(const Piece& piece) {
  return (piece.rows.end - piece.rows.begin) *
         file_row_bytes(*piece.weight->from, piece.weight->form);
}

void cut(const WeightToPack& weight, std::vector<Piece>& pieces) {
  const uint64_t groups =
      kPieceBytes / (kGroupRows * std::max<uint64_t>(1, file_row_bytes(*weight.from, weight.form)));
  const uint64_t at_once = std::max<uint64_t>(1, groups) * kGroupRows;
  for (uint64_t row = 0; row < weight.form.n_rows; row += at_once) {
    const uint64_t end = std::min<uint64_t>(weight.form.n_rows, row + at_once);
    pieces.push_back({&weight, {static_cast<uint32_t>(row), static_cast<uint32_t>(end)}});
  }
}

void forget(const Piece& piece) {
  const auto& from = *piece.weight->from;
  const uint64_t first = piece.rows.begin * file_row_bytes(from, piece.weight->form);
  if (from.is_mapped) forget_pages(from.data.subspan(first, file_bytes(piece)));
}

Status pack_piece(const Piece& piece) {
  const auto& [from, form, values, scales] = *piece.weight;
  const Status packed = repack(*from, form, piece.rows, values, scales);
  forget(piece);
  return packed;
}

// As many pieces as a round has.
std::span<const Piece> next_round(std::span<const Piece> left) {
  uint64_t bytes = 0;
  size_t n = 0;
  while (n < left.size() && bytes < kRoundBytes) bytes += file_bytes(left[n++]);
  return left.first(n);
}

uint64_t image_bytes(const Piece& piece) {
  const auto& [from, form, values, scales] = *piece.weight;
  return (values.size() + scales.size()) / form.n_rows * (piece.rows.end - piece.rows.begin);
}

}  // namespace

Status pack_weights(std::span<const WeightToPack> weights, ThreadTeam& team,
                    const std::function<void(uint64_t)>& done) {
  std::vector<Piece> pieces;
  for (const WeightToPack& weight : weights) cut(weight, pieces);
  std::vector<Status> outcomes;
  uint64_t bytes = 0;
  for (std::span<const Piece> left = pieces; !left.empty();) {
    const auto round = next_round(left);
    outcomes.assign(round.size(), Status());
    team.run(static_cast<uint32_t>(round.size()), 1, [&](uint32_t begin, uint32_t end) {
      for (uint32_t i = begin; i < end; ++i) outcomes[i] = pack_piece(round[i]);
    });
    const auto bad = std::ranges::find_if(outcomes, [](const Status& one) { return !one; });
    if (bad != outcomes.end()) return *bad;
    for (const Piece& piece : round) {
      bytes += image_bytes(piece);
      forget(piece);  // again: reading its neighbours maps the pages around them, too
    }
    if (done) done(bytes);
    left = left.subspan(round.size());
  }
  return {};
}

}  // namespace polykv
