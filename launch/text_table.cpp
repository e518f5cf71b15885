// Widths, columns, rows.
#include "launch/text_table.h"

#include <algorithm>
#include <iomanip>
#include <numeric>
#include <sstream>

#include "ipc/utf8.h"

namespace polykv {
namespace {

constexpr size_t kGap = 2;

std::vector<size_t> widths_of(const TextTable& table) {
  std::vector<size_t> widths;
  for (const Column& column : table.columns) widths.push_back(width_of(column.title));
  for (const auto& row : table.rows) {
    for (size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  return widths;
}

size_t total(const std::vector<size_t>& widths, const std::vector<size_t>& shown) {
  const auto add = [&](size_t sum, size_t i) { return sum + widths[i] + kGap; };
  return std::accumulate(shown.begin(), shown.end(), size_t{0}, add) - kGap;
}

// Indices of the columns that fit.
std::vector<size_t> chosen(const TextTable& table, const std::vector<size_t>& widths,
                           size_t columns) {
  std::vector<size_t> shown(table.columns.size());
  std::iota(shown.begin(), shown.end(), size_t{0});
  while (columns > 0 && total(widths, shown) > columns) {
    const auto least =
        std::ranges::max_element(shown, {}, [&](size_t i) { return table.columns[i].importance; });
    if (table.columns[*least].importance == 0) break;
    shown.erase(least);
  }
  return shown;
}

std::string padded(const std::string& text, size_t width, bool number) {
  const std::string space(width - width_of(text), ' ');
  return number ? space + text : text + space;
}

}  // namespace

std::string fixed(double value, int digits) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << value;
  return out.str();
}

size_t width_of(std::string_view text) {
  size_t characters = 0;
  for (size_t i = 0; i < text.size(); i += utf8_step(text, i).bytes) ++characters;
  return characters;
}

std::string printable(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = utf8_step(text, i);
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool c1 =
        byte == 0xc2 && step.bytes == 2 && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    const bool good = step.state == Utf8State::complete && byte >= 0x20 && byte != 0x7f && !c1;
    out += good ? text.substr(i, step.bytes) : "?";
    i += step.bytes;
  }
  return out;
}

std::string cut(const std::string& line, size_t columns) {
  if (columns == 0 || width_of(line) <= columns) return line;
  size_t end = 0;
  for (size_t kept = 1; kept < columns; ++kept) end += utf8_step(line, end).bytes;
  return line.substr(0, end) + "…";
}

std::vector<std::string> table_lines(const TextTable& table, size_t columns) {
  const std::vector<size_t> widths = widths_of(table);
  const std::vector<size_t> shown = chosen(table, widths, columns);
  std::vector<std::string> titles;
  for (const Column& column : table.columns) titles.push_back(column.title);
  std::vector<std::string> lines;
  const auto add = [&](const std::vector<std::string>& row) {
    std::string line;
    for (const size_t i : shown) {
      if (!line.empty()) line.append(kGap, ' ');
      line += padded(row[i], widths[i], table.columns[i].number);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    lines.push_back(cut(line, columns));
  };
  add(titles);
  for (const auto& row : table.rows) add(row);
  return lines;
}

}  // namespace polykv
