// Tables of layers.
#include "launch/eval_layers.h"

#include <ostream>

#include "launch/text_table.h"

namespace polykv {
namespace {

std::string percent(const Message& layer, const char* field) {
  return fixed(100 * layer.number(field), 2);
}

void print(const TextTable& table, std::ostream& out) {
  for (const std::string& line : table_lines(table, 0)) out << line << '\n';
}

TextTable values_table(const std::vector<Message>& layers) {
  TextTable table{{{"layer", 0, true},
                   {"rows", 0, true},
                   {"K rms", 0, true},
                   {"largest", 0, true},
                   {"mean %", 0, true},
                   {"peak", 0, true},
                   {"V rms", 0, true},
                   {"largest", 0, true},
                   {"mean %", 0, true},
                   {"peak", 0, true}},
                  {}};
  for (const Message& layer : layers) {
    table.rows.push_back({cat(layer.integer("layer")), cat(layer.integer("rows")),
                          fixed(layer.number("k_rms"), 3), fixed(layer.number("k_largest"), 2),
                          percent(layer, "k_mean_share"), fixed(layer.number("k_peak"), 2),
                          fixed(layer.number("v_rms"), 3), fixed(layer.number("v_largest"), 2),
                          percent(layer, "v_mean_share"), fixed(layer.number("v_peak"), 2)});
  }
  return table;
}

TextTable errors_table(const std::vector<Message>& layers) {
  TextTable table{{{"layer", 0, true},
                   {"K error %", 0, true},
                   {"V error %", 0, true},
                   {"score error", 0, true},
                   {"worst head", 0, true},
                   {"its error", 0, true},
                   {"widened", 0, true}},
                  {}};
  for (const Message& layer : layers) {
    table.rows.push_back(
        {cat(layer.integer("layer")), percent(layer, "k_error"), percent(layer, "v_error"),
         fixed(layer.number("score_error"), 4), cat(layer.integer("worst_head")),
         fixed(layer.number("worst_score_error"), 4), cat(layer.integer("widened_planes"))});
  }
  return table;
}

}  // namespace

void print_layers(const std::vector<EvalRow>& rows, std::ostream& out) {
  if (rows.empty()) return;
  out << "\nK and V of the first window. rms: root mean square; mean %: of the squares, what the "
         "channels' means hold;\npeak: largest / rms of a row without the mean, rotated\n\n";
  print(values_table(rows.front().layers), out);
  for (const EvalRow& row : rows) {
    out << '\n'
        << row.codec
        << ": errors of K and V in % of what is left without the mean; of scores, in units of the "
           "softmax's exponent;\nwidened: planes of K that take more bits than the codec says\n\n";
    print(errors_table(row.layers), out);
  }
}

}  // namespace polykv
